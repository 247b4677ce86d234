//! Selection: rules as SQL predicates, evaluated on the rows of one part at a time.
//!
//! A rule has a result for every row. A value that cannot be computed is null, and a row on which
//! the predicate is null does not pass. Null is also used for NaN (which pandas and NumPy write for
//! a missing value), for a division by zero, and for a text that is not a number where one is
//! needed. If a function still fails on some rows, only these rows do not pass, and they are
//! reported.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError, ScalarValue, plan_err};
use datafusion::functions::core::expr_fn::nullif as null_if;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, ExprSchemable, Operator, TryCast, Volatility, lit};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_plan::PhysicalExpr;
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::{self, visit_expressions_mut};

use lynxdata_records::nan_as_null;

use crate::functions::missing_if_nan;
use crate::{Error, Result};

/// The reason in `rejected_by` for duplicates; the other reasons are names of rules.
pub const DUPLICATE: &str = "duplicate";

/// A named predicate that a pair must pass. A pair on which the predicate is null, because a signal
/// is missing, does not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The name in `rejected_by`.
    pub name: String,
    /// SQL over the columns of the pair: signals, the pool's columns except the image, and extra
    /// columns of the source.
    pub predicate: String,
}

/// Checks that every rule can be planned over these columns, has a Boolean result, and can be
/// evaluated. An invalid regular expression fails here, for example.
///
/// # Errors
/// [`Error::Rule`] names the first rule that fails, the reason, and the columns that exist.
pub fn check(session: &SessionContext, columns: &SchemaRef, rules: &[Rule]) -> Result<()> {
    rules.iter().try_for_each(|rule| plan(session, columns, rule).map(|_| ()))
}

/// Returns the text columns that a rule reads as 64-bit floats, because it compares them with
/// numbers or computes with them. Whole numbers above 2 to the 53rd are rounded then.
///
/// # Errors
/// As [`check`].
pub fn texts_read_as_floats(session: &SessionContext, columns: &SchemaRef, rule: &Rule) -> Result<BTreeSet<String>> {
    let found = || {
        let schema = DFSchema::try_from(Arc::clone(columns))?;
        let expression = with_wide_numbers(parse(session, &rule.predicate, &schema)?, &schema)?;
        let mut found = BTreeSet::new();
        expression.apply(|part| {
            if let Expr::TryCast(TryCast { expr, field }) = part
                && *field.data_type() == DataType::Float64
                && expr.get_type(&schema)?.is_string()
            {
                found.extend(expr.column_refs().into_iter().map(|column| column.name.clone()));
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(found)
    };
    found().map_err(|error: DataFusionError| failed(columns, rule, one_line(&error)))
}

fn failed(columns: &SchemaRef, rule: &Rule, reason: String) -> Error {
    Error::Rule {
        rule: rule.name.clone(),
        predicate: rule.predicate.clone(),
        reason,
        columns: columns.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", "),
    }
}

/// Compiles a rule to an expression that can be evaluated.
fn plan(session: &SessionContext, columns: &SchemaRef, rule: &Rule) -> Result<Arc<dyn PhysicalExpr>> {
    let planned = || -> std::result::Result<(Arc<dyn PhysicalExpr>, DataType), DataFusionError> {
        let schema = DFSchema::try_from(Arc::clone(columns))?;
        let expression = parse(session, &rule.predicate, &schema)?;
        refuse_impure(&expression)?;
        let context = SimplifyContext::builder().with_schema(Arc::new(schema.clone())).build();
        let simplifier = ExprSimplifier::new(context);
        let expression = simplifier.coerce(with_wide_numbers(expression, &schema)?, &schema)?;
        // Some functions, such as coalesce, can be evaluated only after simplification.
        let expression = simplifier.simplify(make_total(expression, &schema)?)?;
        try_parts(session, &expression, &schema)?;
        let data_type = expression.get_type(&schema)?;
        Ok((session.create_physical_expr(expression, &schema)?, data_type))
    };
    match planned() {
        Ok((expression, DataType::Boolean | DataType::Null)) => Ok(expression),
        Ok((_, other)) => Err(failed(columns, rule, format!("its result is {other}, not true or false"))),
        Err(error) => Err(failed(columns, rule, one_line(&error))),
    }
}

/// Parses a predicate. A name means the column with exactly this name, otherwise the only column
/// whose name differs just in case. A name with dots may be the name of one column. The parser of
/// the session keeps names as written.
fn parse(session: &SessionContext, predicate: &str, schema: &DFSchema) -> std::result::Result<Expr, DataFusionError> {
    let state = session.state();
    let mut expression = state.sql_to_expr_with_alias(predicate, &state.config_options().sql_parser.dialect)?;
    let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let resolved = visit_expressions_mut(&mut expression.expr, |part| {
        let name = match part {
            ast::Expr::Identifier(name) => name.value.clone(),
            ast::Expr::CompoundIdentifier(names) => {
                names.iter().map(|name| name.value.as_str()).collect::<Vec<_>>().join(".")
            }
            _ => return ControlFlow::Continue(()),
        };
        match column_of(&name, &columns) {
            // Parameters of lambdas and fields of structs are left to DataFusion.
            Ok(None) => ControlFlow::Continue(()),
            Ok(Some(column)) => {
                *part = ast::Expr::Identifier(ast::Ident::with_quote('"', column));
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(error),
        }
    });
    match resolved {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => state.create_logical_expr_from_sql_expr(expression, schema),
    }
}

fn column_of<'a>(name: &str, columns: &[&'a str]) -> std::result::Result<Option<&'a str>, DataFusionError> {
    if let Some(exact) = columns.iter().find(|column| **column == name) {
        return Ok(Some(exact));
    }
    let alike: Vec<&str> = columns.iter().copied().filter(|column| column.eq_ignore_ascii_case(name)).collect();
    match alike.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(only)),
        several => {
            plan_err!("{name} may be any of {}; write the name exactly as the column has it", several.join(", "))
        }
    }
}

/// The functions whose arguments must have one type.
const ONE_TYPE: &[&str] = &["coalesce", "greatest", "ifnull", "least", "nullif", "nvl"];

/// Rewrites comparisons and arithmetic that would use too narrow a number type.
///
/// * A text that is compared with a number is read as a float. DataFusion would read it as an
///   integer beside an integer, so that `score > 5` would miss "7.5". The same holds for the
///   arguments of [`ONE_TYPE`].
/// * A decimal beside a float is read as a float. DataFusion would read the float as a decimal of
///   15 digits on each side of the point, so that larger floats and infinity would be null.
/// * Arithmetic on narrow integers uses signed 64-bit integers, so that `first - second` of two
///   `uint16` columns can be negative. Arithmetic on wider ones uses decimals, because it would
///   wrap. A result beyond signed 64 bits is null, except where it is only compared with a
///   constant: then it is exact.
fn with_wide_numbers(expression: Expr, schema: &DFSchema) -> std::result::Result<Expr, DataFusionError> {
    let type_of = |part: &Expr| part.get_type(schema).unwrap_or(DataType::Null);
    let read_as = |part: Expr, data_type: DataType| Expr::TryCast(TryCast::new(Box::new(part), data_type));
    // A text column beside a number is read as a number. A constant text is left to the planner.
    let beside = |part: Expr, is_number: bool| {
        if is_number && part.any_column_refs() && type_of(&part).is_string() {
            read_as(part, DataType::Float64)
        } else {
            part
        }
    };
    let is_float = |part: &Expr| type_of(part).is_floating();
    let as_float = |part: Expr, is_beside_float: bool| {
        if is_beside_float && is_decimal(&type_of(&part)) { read_as(part, DataType::Float64) } else { part }
    };
    let wide = |part: Expr| {
        let data_type = type_of(&part);
        if data_type.is_integer() && data_type != DataType::Int64 { read_as(part, DataType::Int64) } else { part }
    };
    // An operation on two of them has a result within signed 64 bits; the product of two `uint32`
    // may not.
    let is_narrow = |part: &Expr| match part {
        Expr::Literal(ScalarValue::Int64(Some(number)), _) => i32::try_from(*number).is_ok(),
        part => !matches!(type_of(part), DataType::Int64 | DataType::UInt64 | DataType::UInt32),
    };
    let rewrite = |part: Expr| match part {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if op.is_numerical_operators() || is_comparison(op) => {
            let (left_is_number, right_is_number) = (type_of(&left).is_numeric(), type_of(&right).is_numeric());
            let (left, right) = (beside(*left, right_is_number), beside(*right, left_is_number));
            let (left_is_float, right_is_float) = (is_float(&left), is_float(&right));
            let (mut left, mut right) = (as_float(left, right_is_float), as_float(right, left_is_float));
            if op.is_numerical_operators() && type_of(&left).is_integer() && type_of(&right).is_integer() {
                let is_exact = op == Operator::Divide || is_narrow(&left) && is_narrow(&right);
                if !is_exact {
                    let (left, right) = (Box::new(read_as(left, DECIMAL)), Box::new(read_as(right, DECIMAL)));
                    let exact = Expr::BinaryExpr(BinaryExpr { left, op, right });
                    return Ok(Transformed::yes(read_as(exact, DataType::Int64)));
                }
                (left, right) = (wide(left), wide(right));
            }
            Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr { left: Box::new(left), op, right: Box::new(right) })))
        }
        Expr::Between(mut between) => {
            let is_number = type_of(&between.low).is_numeric() && type_of(&between.high).is_numeric();
            let expr = beside(*between.expr, is_number);
            let has_float = is_float(&expr) || is_float(&between.low) || is_float(&between.high);
            between.expr = Box::new(as_float(expr, has_float));
            between.low = Box::new(as_float(*between.low, has_float));
            between.high = Box::new(as_float(*between.high, has_float));
            Ok(Transformed::yes(Expr::Between(between)))
        }
        Expr::InList(mut list) => {
            let is_number = !list.list.is_empty() && list.list.iter().all(|item| type_of(item).is_numeric());
            let expr = beside(*list.expr, is_number);
            let has_float = is_float(&expr) || list.list.iter().any(is_float);
            list.expr = Box::new(as_float(expr, has_float));
            list.list = list.list.into_iter().map(|item| as_float(item, has_float)).collect();
            Ok(Transformed::yes(Expr::InList(list)))
        }
        Expr::ScalarFunction(mut call) if ONE_TYPE.contains(&call.func.name()) => {
            let is_number = call.args.iter().any(|part| type_of(part).is_numeric());
            call.args = call.args.into_iter().map(|part| beside(part, is_number)).collect();
            let has_float = call.args.iter().any(is_float);
            call.args = call.args.into_iter().map(|part| as_float(part, has_float)).collect();
            Ok(Transformed::yes(Expr::ScalarFunction(call)))
        }
        other => Ok(Transformed::no(other)),
    };
    expression.transform_up(rewrite).map(|rewritten| rewritten.data)
}

/// A decimal that holds all integers of 64 bits. The product of two such decimals has 38 digits, as
/// many as the product of two signed integers of 64 bits.
const DECIMAL: DataType = DataType::Decimal128(20, 0);

fn is_decimal(data_type: &DataType) -> bool {
    use DataType::{Decimal32, Decimal64, Decimal128, Decimal256};
    matches!(data_type, Decimal32(..) | Decimal64(..) | Decimal128(..) | Decimal256(..))
}

fn is_comparison(operator: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(operator, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// Rewrites operations that would fail on some values, so that they return null there.
///
/// * A cast of a column becomes a `TRY_CAST`. A cast of a constant stays, so that `width > 'wide'`
///   is refused.
/// * A divisor of zero becomes null, and so does a NaN that is computed or parsed.
fn make_total(expression: Expr, schema: &DFSchema) -> std::result::Result<Expr, DataFusionError> {
    let rewrite = |part: Expr| {
        let part = match part {
            Expr::Cast(Cast { expr, field }) if expr.any_column_refs() => Expr::TryCast(TryCast { expr, field }),
            Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Divide | Operator::Modulo), right }) => {
                let right = without_zero(*right, schema)?;
                Expr::BinaryExpr(BinaryExpr { left, op, right: Box::new(right) })
            }
            Expr::TryCast(_) | Expr::ScalarFunction(_) => part,
            Expr::BinaryExpr(ref binary) if binary.op.is_numerical_operators() => part,
            other => return Ok(Transformed::no(other)),
        };
        let is_float = part.get_type(schema)?.is_floating();
        Ok(Transformed::yes(if is_float { missing_if_nan(part) } else { part }))
    };
    expression.transform_up(rewrite).map(|rewritten| rewritten.data)
}

/// Returns a divisor with null in place of zero. Types without a zero, such as intervals, are left
/// to DataFusion.
fn without_zero(divisor: Expr, schema: &DFSchema) -> std::result::Result<Expr, DataFusionError> {
    let data_type = divisor.get_type(schema)?;
    let Ok(zero) = ScalarValue::new_zero(&data_type) else { return Ok(divisor) };
    // Arrow distinguishes -0.0 from 0.0; adding zero makes it 0.0.
    let divisor = if data_type.is_floating() { divisor + lit(zero.clone()) } else { divisor };
    Ok(null_if(divisor, lit(zero)))
}

/// Evaluates every part of an expression on a few made-up rows. Each part is evaluated on its own,
/// because `AND` and `CASE` skip some. A part that fails on every row can never work.
fn try_parts(
    session: &SessionContext,
    expression: &Expr,
    schema: &DFSchema,
) -> std::result::Result<(), DataFusionError> {
    let rows = made_up_rows(&schema.inner().clone())?;
    expression
        .apply(|part| {
            // A part that cannot be evaluated alone is tried with the expression around it.
            let Ok(part) = session.create_physical_expr(part.clone(), schema) else {
                return Ok(TreeNodeRecursion::Continue);
            };
            let mut failure = None;
            for row in 0..rows.num_rows() {
                match part.evaluate(&rows.slice(row, 1)) {
                    Ok(_) => return Ok(TreeNodeRecursion::Continue),
                    Err(error) => failure = Some(error),
                }
            }
            failure.map_or(Ok(TreeNodeRecursion::Continue), Err)
        })
        .map(|_| ())
}

/// Returns rows of small and ordinary values and a row of nulls. Columns that are not texts,
/// numbers or times are null. What fails even on the row of nulls fails because of its constants.
fn made_up_rows(columns: &SchemaRef) -> std::result::Result<RecordBatch, DataFusionError> {
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some(""), Some("a"), Some("100"), None]));
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(0), Some(1), Some(100), None]));
    let values = columns.fields().iter().map(|field| {
        let values = if field.data_type().is_string() { &texts } else { &numbers };
        let is_simple = !field.data_type().is_nested();
        let values = is_simple.then(|| cast(values, field.data_type()).ok()).flatten();
        values.unwrap_or_else(|| new_null_array(field.data_type(), numbers.len()))
    });
    let fields: Vec<_> = columns.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), values.collect())?)
}

/// Refuses a rule whose answer for a pair depends on anything else: on other pairs, on the part or
/// on the time.
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
                        "{name}() may return another result at another time; a rule looks at one pair and nothing else"
                    );
                }
                _ => return Ok(TreeNodeRecursion::Continue),
            };
            plan_err!("{reason}; a rule looks at one pair and nothing else")
        })
        .map(|_| ())
}

/// Shortens DataFusion's message to one line. Drops the backtrace, the list of all columns, hints
/// at settings that a rule cannot change, and the name of the placeholder table.
fn one_line(error: &DataFusionError) -> String {
    // DataFusion frames a regular expression with lines of tildes.
    let is_frame = |line: &&str| !line.is_empty() && line.chars().all(|character| character == '~');
    let text = error.strip_backtrace();
    let text = text.lines().map(str::trim).filter(|line| !is_frame(line)).collect::<Vec<_>>().join(" ");
    let text = text.replace("\"?table?\".", "").replace("?table?.", "");
    let ends = [" Valid fields are", " Column names are case sensitive", " This issue was likely caused by"];
    let end = ends.iter().filter_map(|end| text.find(end)).min();
    text[..end.unwrap_or(text.len())].trim_end_matches('.').to_owned()
}

/// The answers of one rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Answers {
    /// Whether each row passes; never null.
    pub passed: BooleanArray,
    /// Rows on which the predicate could not be evaluated. They do not pass.
    pub failed: Vec<usize>,
    /// DataFusion's message about the first of them.
    pub reason: Option<String>,
}

/// Evaluates every rule on every row. `path` is only used in messages.
///
/// # Errors
/// [`Error::Rule`] for a rule that cannot be planned over the columns. A rule that fails on a row
/// is not an error.
pub fn evaluate(session: &SessionContext, rows: &RecordBatch, rules: &[Rule], path: &Path) -> Result<Vec<Answers>> {
    let rows = without_nan(rows).map_err(|source| Error::Evaluate { path: path.to_owned(), source: source.into() })?;
    let columns = rows.schema();
    let evaluated = rules.iter().map(|rule| {
        let predicate = plan(session, &columns, rule)?;
        let mut passed = vec![false; rows.num_rows()];
        let mut answers = Answers { passed: BooleanArray::from(Vec::<bool>::new()), failed: Vec::new(), reason: None };
        evaluate_rows(&predicate, &rows, 0, &mut passed, &mut answers);
        Ok(Answers { passed: passed.into(), ..answers })
    });
    evaluated.collect()
}

/// Evaluates a predicate on rows that begin at `first`. If that fails, evaluates each half
/// separately, down to the single rows that fail.
fn evaluate_rows(
    predicate: &Arc<dyn PhysicalExpr>,
    rows: &RecordBatch,
    first: usize,
    passed: &mut [bool],
    answers: &mut Answers,
) {
    let count = rows.num_rows();
    match predicate.evaluate(rows).and_then(|values| values.into_array(count)) {
        Ok(values) => {
            // A predicate of type Null is null for every row.
            if let Some(values) = values.as_boolean_opt() {
                for (row, value) in values.iter().enumerate() {
                    passed[first + row] = value == Some(true);
                }
            }
        }
        Err(error) if count == 1 => {
            answers.failed.push(first);
            answers.reason.get_or_insert_with(|| one_line(&error));
        }
        Err(_) => {
            let middle = count / 2;
            evaluate_rows(predicate, &rows.slice(0, middle), first, passed, answers);
            evaluate_rows(predicate, &rows.slice(middle, count - middle), first + middle, passed, answers);
        }
    }
}

/// Returns the rows with null in place of NaN.
fn without_nan(rows: &RecordBatch) -> std::result::Result<RecordBatch, arrow::error::ArrowError> {
    let columns = rows.columns().iter().map(nan_as_null).collect::<std::result::Result<Vec<_>, _>>()?;
    let fields = rows.schema();
    let fields: Vec<_> = fields.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        Decimal128Array, Float32Array, Float64Array, Int8Array, ListArray, StructArray, UInt32Array, UInt64Array,
    };
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::Field;

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

    fn answers(rows: &RecordBatch, predicate: &str) -> Answers {
        let rules = [rule("mine", predicate)];
        evaluate(&session::local(), rows, &rules, Path::new("test")).unwrap().remove(0)
    }

    fn passed(rows: &RecordBatch, predicate: &str) -> Vec<bool> {
        answers(rows, predicate).passed.iter().map(Option::unwrap).collect()
    }

    #[test]
    fn a_missing_signal_does_not_pass() {
        assert_eq!(passed(&rows(), "width >= 64"), [true, false, false]);
        assert_eq!(passed(&rows(), "width < 64"), [false, true, false]);
        assert_eq!(passed(&rows(), "null"), [false; 3]);
        assert_eq!(passed(&rows(), "true"), [true; 3]);
    }

    #[test]
    fn signals_are_functions_of_the_same_name() {
        let predicate = "caption_words(caption) >= 3 AND lower(caption) LIKE '%boat%'";
        assert_eq!(passed(&rows(), predicate), [true, false, false]);
    }

    #[test]
    fn decimals_are_compared_with_floats_of_any_size() {
        let decimals = Decimal128Array::from(vec![333, 333, 333, 1]).with_precision_and_scale(10, 2).unwrap();
        let rows = RecordBatch::try_from_iter([
            ("price", Arc::new(decimals) as ArrayRef),
            ("limit", Arc::new(Float64Array::from(vec![1e30, f64::INFINITY, 3.334, 0.0049]))),
        ])
        .unwrap();
        assert_eq!(passed(&rows, "price < limit"), [true, true, true, false]);
        assert_eq!(passed(&rows, "limit - price > 0"), [true, true, true, false]);
        assert_eq!(passed(&rows, "limit BETWEEN price AND 4"), [false, false, true, false]);
        assert_eq!(passed(&rows, "coalesce(limit, price) > 4"), [true, true, false, false]);
        assert_eq!(passed(&rows, "price IN (3.33, limit)"), [true, true, true, false]);
        assert_eq!(passed(&rows, "price = 3.33"), [true, true, true, false]);
    }

    #[test]
    fn a_value_that_is_none_does_not_pass_and_changes_no_other_row() {
        let floats = Arc::new(Float64Array::from(vec![Some(1.0), Some(f64::NAN), None])) as ArrayRef;
        let value = Arc::new(Field::new("value", DataType::Float64, true));
        let item = Arc::new(Field::new_list_field(DataType::Float64, true));
        let rows = RecordBatch::try_from_iter([
            ("good", Arc::new(Float64Array::from(vec![1.0, 0.5, 2.0])) as ArrayRef),
            ("with_nan", Arc::new(Float64Array::from(vec![Some(1.0), Some(f64::NAN), None]))),
            ("with_minus_nan", Arc::new(Float32Array::from(vec![1.0, -f32::NAN, 0.0]))),
            ("whole", Arc::new(Int64Array::from(vec![1, 0, 0]))),
            ("text", Arc::new(StringArray::from(vec!["1", "", "one"]))),
            ("nan_text", Arc::new(StringArray::from(vec![Some("1"), Some("NaN"), None]))),
            ("minus_zero", Arc::new(Float64Array::from(vec![1.0, -0.0, 0.0]))),
            ("nested", Arc::new(StructArray::from(vec![(value, Arc::clone(&floats))]))),
            ("list", Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([1, 1, 1]), floats, None))),
            ("tag", Arc::new(StringArray::from(vec!["day", "(", "hour"]))),
        ])
        .unwrap();
        for predicate in [
            "with_nan > 0.3",
            "NOT (with_nan < 0.3)",
            "with_nan <> 7",
            "with_nan IS NOT NULL",
            "with_nan BETWEEN 0 AND 1e300",
            "with_minus_nan > 0.3",
            "10 / whole > 3",
            "10 % whole = 0",
            "good / whole > 0.1",
            "(whole - whole + good) / whole > 0.1",
            "text > 0.3",
            "CAST(text AS INT) = 1",
            "CAST(text AS DOUBLE) + 1 > 0",
            "nan_text > 0.3",
            "CAST(nan_text AS DOUBLE) > 0.3",
            "TRY_CAST(nan_text AS DOUBLE) > 0.3",
            "nested['value'] > 0.3",
            "list[1] > 0.3",
            "1 / minus_zero > -1000",
            "good / minus_zero < 1000",
            "good / minus_zero - 10 / minus_zero < 1000",
            "coalesce(with_nan, -1) > 0.3",
        ] {
            assert_eq!(passed(&rows, predicate), [true, false, false], "{predicate}");
        }
        // A function fails on one row: this row does not pass and is reported.
        let answers = answers(&rows, "regexp_like('d', substr(tag, 1, 1))");
        assert_eq!(answers.passed, BooleanArray::from(vec![true, false, false]));
        assert_eq!(answers.failed, [1]);
        assert!(answers.reason.is_some());
    }

    #[test]
    fn numbers_are_wide_enough_for_what_is_computed_and_compared() {
        let rows = RecordBatch::try_from_iter([
            ("text", Arc::new(StringArray::from(vec!["7.5", "9.25", "unknown", "3"])) as ArrayRef),
            ("whole", Arc::new(Int64Array::from(vec![7, 8, 9, 10]))),
            ("first", Arc::new(UInt32Array::from(vec![3, 1, 2, 60_000]))),
            ("second", Arc::new(UInt32Array::from(vec![1, 5, 2, 80_000]))),
            ("third", Arc::new(UInt32Array::from(vec![u32::MAX, 60_000, 5, 4]))),
            ("small", Arc::new(Int8Array::from(vec![100, 1, 1, 1]))),
            ("most", Arc::new(UInt64Array::from(vec![u64::MAX, 1 << 62, 2, 1]))),
            ("large", Arc::new(Int64Array::from(vec![i64::MAX, i64::MIN, 5, 1]))),
        ])
        .unwrap();
        for (predicate, expected) in [
            ("text > 5", [true, true, false, false]),
            ("5 < text", [true, true, false, false]),
            ("text > 5.0", [true, true, false, false]),
            ("text > whole", [true, true, false, false]),
            ("text BETWEEN 3 AND 8", [true, false, false, true]),
            ("text IN (3, 9.25)", [false, true, false, true]),
            ("text * 2 > 14", [true, true, false, false]),
            ("coalesce(text, 0) < 8", [true, false, true, true]),
            ("nvl(text, 0) < 8", [true, false, true, true]),
            ("nullif(text, 0) > 5", [true, true, false, false]),
            ("greatest(text, 8) > 8", [false, true, false, false]),
            ("CASE WHEN whole > 0 THEN text ELSE 0 END > 5", [true, true, false, false]),
            ("CASE text WHEN 7.5 THEN true ELSE false END", [true, false, false, false]),
            ("nvl2(text, 1, 0) = 1", [true, true, true, true]),
            ("most % 10 = 5", [true, false, false, false]),
            ("most % 2 >= 0", [true; 4]),
            ("most - 9223372036854775807 < 0", [false, true, true, true]),
            ("large * 4 < 100", [false, true, true, true]),
            ("large + 1 < large", [false; 4]),
            ("large * large < 100", [false, false, true, true]),
            ("large - 2 > 0", [true, false, true, false]),
            ("large / 2 > 0", [true, false, true, false]),
            ("third * third < 0", [false; 4]),
            ("third * third > 9", [true; 4]),
            ("first - second > 1", [true, false, false, false]),
            ("first - second < 0", [false, true, false, true]),
            ("first * second > 4000000000", [false, false, false, true]),
            ("small + small > 150", [true, false, false, false]),
            ("whole / 2 = 4", [false, true, true, false]),
        ] {
            assert_eq!(passed(&rows, predicate), expected, "{predicate}");
        }
        let as_floats =
            |predicate| texts_read_as_floats(&session::local(), &rows.schema(), &rule("mine", predicate)).unwrap();
        assert_eq!(as_floats("text % 10 = 3 AND whole > 5"), BTreeSet::from(["text".to_owned()]));
        assert_eq!(as_floats("text = '3' AND length(text) > 5 AND whole % 2 = 0"), BTreeSet::new());
    }

    #[test]
    fn a_name_means_the_column_that_is_spelled_so_else_the_one_that_differs_in_case() {
        let number = |value| Arc::new(Int64Array::from(vec![value])) as ArrayRef;
        let columns = [("width", 1), ("WIDTH", 2), ("NSFW", 3), ("meta.score", 4), ("Name", 5), ("NAME", 6)];
        let rows = RecordBatch::try_from_iter(columns.map(|(name, value)| (name, number(value)))).unwrap();
        for predicate in [
            "width = 1",
            "WIDTH = 2",
            "\"WIDTH\" = 2",
            "nsfw = 3",
            "NSFW = 3",
            "\"meta.score\" = 4",
            "meta.score = 4",
            "Name = 5",
            "ABS(WIDTH) = 2 and LOWER('A') = 'a'",
        ] {
            assert_eq!(passed(&rows, predicate), [true], "{predicate}");
        }
        let check = |predicate| check(&session::local(), &rows.schema(), &[rule("mine", predicate)]);
        let error = check("name = 5").unwrap_err().to_string();
        assert!(error.contains("Name, NAME"), "{error}");
        let error = check("Width = 5").unwrap_err().to_string();
        assert!(error.contains("width, WIDTH"), "{error}");
    }

    #[test]
    fn a_rule_that_can_never_work_is_told_before_there_are_rows() {
        let session = session::local();
        let columns = rows().schema();
        for predicate in [
            "caption ~ '(boat'",
            "width > 10 AND caption ~ '(boat'",
            "CASE WHEN width > 10 THEN regexp_like(caption, '[') ELSE true END",
            "regexp_match(caption, 'a', 'bad flags') IS NULL",
            "width > 'wide'",
            "width > 10 OR width > CAST('wide' AS INT)",
        ] {
            let error = check(&session, &columns, &[rule("mine", predicate)]).unwrap_err().to_string();
            assert!(error.contains("rule \"mine\"") && !error.contains("~~"), "{predicate}: {error}");
            assert!(!error.contains('\n') || error.lines().count() == 3, "{error}");
        }
        for predicate in [
            "substr(caption, 1, width - 50) = 'A'",
            "caption ~ '(boat)'",
            "caption ~ caption",
            "to_timestamp(caption, '%d/%m/%Y') > '2020-01-01'",
            "to_date(caption) >= '2020-01-01'",
            "nvl(width, 1) > 0",
        ] {
            check(&session, &columns, &[rule("mine", predicate)]).unwrap();
        }
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
