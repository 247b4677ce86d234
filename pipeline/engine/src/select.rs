//! Selection: rules as SQL predicates, evaluated on the rows of one part at a time.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, exec_datafusion_err, plan_err};
use datafusion::datasource::MemTable;
use datafusion::logical_expr::{Expr, Volatility};
use datafusion::prelude::SessionContext;

use crate::{Error, Result};

/// A named predicate that a pair must pass. A predicate that is null, because a signal is missing, does not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The name in `rejected_by`.
    pub name: String,
    /// SQL over the columns of the pair: signals, the pool's columns without the picture, and extra columns of the source.
    pub predicate: String,
}

/// Checks that every rule can be planned over these columns and is true or false.
///
/// # Errors
/// [`Error::Rule`] names the first rule that cannot, why, and the columns that there are.
pub fn check(session: &SessionContext, columns: &SchemaRef, rules: &[Rule]) -> Result<()> {
    for rule in rules {
        plan(session, columns, rule)?;
    }
    Ok(())
}

fn plan(session: &SessionContext, columns: &SchemaRef, rule: &Rule) -> Result<Expr> {
    let failed = |reason: String| Error::Rule {
        rule: rule.name.clone(),
        predicate: rule.predicate.clone(),
        reason,
        columns: columns.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", "),
    };
    let planned = || -> std::result::Result<(Expr, DataType), DataFusionError> {
        let empty = Arc::new(MemTable::try_new(columns.clone(), vec![vec![]])?);
        let frame = session.read_table(empty)?;
        let expression = frame.parse_sql_expr(&rule.predicate)?;
        refuse_impure(&expression)?;
        let result = frame.select(vec![expression.clone()])?;
        let data_type = result.schema().field(0).data_type().clone();
        Ok((expression, data_type))
    };
    match planned() {
        Ok((expression, DataType::Boolean | DataType::Null)) => Ok(expression),
        Ok((_, other)) => Err(failed(format!("it gives {other}, not true or false"))),
        Err(error) => Err(failed(one_line(&error))),
    }
}

/// A rule must give the same answer for the same pair, whatever the other pairs, the part and the moment are.
fn refuse_impure(expression: &Expr) -> std::result::Result<(), DataFusionError> {
    expression
        .apply(|part| {
            let reason = match part {
                Expr::AggregateFunction(_) => "an aggregate looks at other pairs",
                Expr::WindowFunction(_) => "a window function looks at other pairs",
                Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_) => "a subquery looks at other rows",
                Expr::Unnest(_) => "unnest makes several rows of one",
                Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable => {
                    let name = call.func.name();
                    return plan_err!(
                        "{name}() gives another answer at another time; a rule looks at one pair and nothing else"
                    );
                }
                _ => return Ok(TreeNodeRecursion::Continue),
            };
            plan_err!("{reason}; a rule looks at one pair and nothing else")
        })
        .map(|_| ())
}

/// DataFusion's message on one line, without its backtrace, the list of all columns and the made-up table that it names.
fn one_line(error: &DataFusionError) -> String {
    let text = error.strip_backtrace().lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let text = text.replace("\"?table?\".", "").replace("?table?.", "");
    text.split(" Valid fields are").next().unwrap_or_default().trim_end_matches('.').to_owned()
}

/// Evaluates every rule on every row: `passed[rule][row]`. `path` is for messages alone.
pub async fn evaluate(
    session: &SessionContext,
    rows: RecordBatch,
    rules: &[Rule],
    path: &Path,
) -> Result<Vec<BooleanArray>> {
    if rules.is_empty() || rows.num_rows() == 0 {
        return Ok(vec![BooleanArray::from(vec![true; rows.num_rows()]); rules.len()]);
    }
    let columns = rows.schema();
    let expressions = rules
        .iter()
        .enumerate()
        .map(|(index, rule)| Ok(plan(session, &columns, rule)?.is_true().alias(format!("rule_{index}"))))
        .collect::<Result<Vec<_>>>()?;
    let wrap = |source| Error::Evaluate { path: path.to_owned(), source };
    let count = rows.num_rows();
    let table = MemTable::try_new(columns, vec![vec![rows]]).map_err(wrap)?;
    let frame = session.read_table(Arc::new(table)).and_then(|frame| frame.select(expressions)).map_err(wrap)?;
    let schema = Arc::new(frame.schema().as_arrow().clone());
    let batches = frame.collect().await.map_err(wrap)?;
    let result = arrow::compute::concat_batches(&schema, &batches).map_err(|error| wrap(error.into()))?;
    if result.num_rows() != count {
        return Err(wrap(exec_datafusion_err!("{count} rows went in and {} came out", result.num_rows())));
    }
    (0..rules.len())
        .map(|index| {
            let passed = result.column(index).as_any().downcast_ref::<BooleanArray>();
            passed.cloned().ok_or_else(|| wrap(exec_datafusion_err!("a predicate gave no booleans")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};

    use super::*;
    use crate::session;

    fn rows() -> RecordBatch {
        RecordBatch::try_from_iter([
            ("width", Arc::new(Int64Array::from(vec![Some(64), Some(10), None])) as arrow::array::ArrayRef),
            ("caption", Arc::new(StringArray::from(vec!["A red boat", "cat", "dog"]))),
        ])
        .unwrap()
    }

    fn rule(name: &str, predicate: &str) -> Rule {
        Rule { name: name.to_owned(), predicate: predicate.to_owned() }
    }

    fn evaluate_now(rules: &[Rule]) -> Vec<Vec<bool>> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let passed = runtime.block_on(evaluate(&session::local(), rows(), rules, Path::new("test"))).unwrap();
        passed.iter().map(|column| column.iter().map(|value| value.unwrap()).collect()).collect()
    }

    #[test]
    fn a_missing_signal_does_not_pass() {
        let passed = evaluate_now(&[rule("wide", "width >= 64"), rule("narrow", "width < 64")]);
        assert_eq!(passed, [[true, false, false], [false, true, false]]);
    }

    #[test]
    fn signals_are_functions_of_the_same_name() {
        let passed = evaluate_now(&[rule("words", "caption_words(caption) >= 3 AND lower(caption) LIKE '%boat%'")]);
        assert_eq!(passed, [[true, false, false]]);
    }

    #[test]
    fn a_rule_looks_at_one_pair_and_nothing_else() {
        let session = session::local();
        let columns = rows().schema();
        for predicate in [
            "count(*) > 1",
            "max(width) > 3 AND width > 1",
            "row_number() over () > 5",
            "random() > 0.5",
            "now() > '2020-01-01'",
        ] {
            let error = check(&session, &columns, &[rule("mine", predicate)]).unwrap_err().to_string();
            assert!(error.contains("one pair and nothing else"), "{predicate}: {error}");
        }
    }

    #[test]
    fn a_rule_that_cannot_be_used_is_explained() {
        let session = session::local();
        let columns = rows().schema();
        let message = |predicate| check(&session, &columns, &[rule("mine", predicate)]).unwrap_err().to_string();
        let unknown = message("widht >= 64");
        assert!(
            unknown.contains("\"mine\"") && unknown.contains("widht") && unknown.contains("width, caption"),
            "{unknown}"
        );
        assert!(message("width + 1").contains("not true or false"));
        assert!(message("width >=").contains("mine"));
    }
}
