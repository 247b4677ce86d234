//! Signals as DataFusion functions. Only this module adapts one to the other.

use std::any::Any;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray, Float64Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use lynxdata_filters::{Group, ImageData, Needs, Sample, Signal, SignalType, Value, signals};
use rayon::prelude::*;

use lynxdata_records::nan_as_null;

/// Returns `missing_if_nan(x)` as part of an expression.
pub(crate) fn missing_if_nan(number: Expr) -> Expr {
    ScalarUDF::new_from_impl(MissingIfNan::new()).call(vec![number])
}

/// Returns whether all signals of a group need only the caption.
pub(crate) fn is_text(group: &Group) -> bool {
    group.signals.iter().all(|signal| signal.needs == Needs::Text)
}

/// Returns all SQL functions: one for each signal that needs no model, and `missing_if_nan`.
pub(crate) fn all() -> Vec<Arc<dyn ScalarUDFImpl>> {
    let mut functions: Vec<Arc<dyn ScalarUDFImpl>> = vec![Arc::new(MissingIfNan::new())];
    let with_function = signals().filter(|signal| signal.function.is_some());
    functions.extend(with_function.map(|signal| Arc::new(OneSignal::new(signal)) as Arc<dyn ScalarUDFImpl>));
    functions
}

/// Returns the Arrow fields of signals, in their order.
pub(crate) fn fields(signals: &[Signal]) -> Fields {
    signals.iter().map(|signal| Field::new(signal.name, data_type(signal), true)).collect()
}

fn data_type(signal: &Signal) -> DataType {
    match signal.signal_type {
        SignalType::Integer => DataType::Int64,
        SignalType::Float => DataType::Float64,
        SignalType::Text => DataType::Utf8,
    }
}

/// Returns the values of a signal as a column. A value of another type than the signal's is a bug
/// in the signal and fails the plan.
fn column<'a>(signal: &Signal, values: impl Iterator<Item = &'a Value>) -> Result<ArrayRef> {
    let wrong = |value: &Value| {
        exec_datafusion_err!("signal {} returned {value:?}, which does not have the type of the signal", signal.name)
    };
    Ok(match signal.signal_type {
        SignalType::Integer => Arc::new(
            values
                .map(|value| match value {
                    Value::Missing => Ok(None),
                    Value::Integer(number) => Ok(Some(*number)),
                    other => Err(wrong(other)),
                })
                .collect::<Result<Int64Array>>()?,
        ),
        SignalType::Float => Arc::new(
            values
                .map(|value| match value {
                    Value::Missing => Ok(None),
                    Value::Float(number) => Ok(Some(*number)),
                    other => Err(wrong(other)),
                })
                .collect::<Result<Float64Array>>()?,
        ),
        SignalType::Text => Arc::new(
            values
                .map(|value| match value {
                    Value::Missing => Ok(None),
                    Value::Text(text) => Ok(Some(text)),
                    other => Err(wrong(other)),
                })
                .collect::<Result<StringArray>>()?,
        ),
    })
}

/// Returns one column per signal from the values of pairs, pair after pair.
pub(crate) fn columns(signals: &[Signal], values: &[Value]) -> Result<Vec<ArrayRef>> {
    signals
        .iter()
        .enumerate()
        .map(|(index, signal)| column(signal, values.iter().skip(index).step_by(signals.len())))
        .collect()
}

fn downcast<'a, T: 'static>(array: &'a ArrayRef, function: &str) -> Result<&'a T> {
    let any: &dyn Any = array.as_any();
    any.downcast_ref::<T>()
        .ok_or_else(|| exec_datafusion_err!("{function} was planned with an argument of type {}", array.data_type()))
}

/// Decodes the image of a row; `None` if there is none or it cannot be decoded.
pub(crate) fn picture(bytes: &BinaryArray, row: usize) -> Option<ImageData> {
    // An image that does not decode has no signals. Its columns stay null, so it passes no rule
    // that uses them.
    bytes.is_valid(row).then(|| ImageData::decode(bytes.value(row)).ok()).flatten()
}

/// `SIGNAL(caption)` or `SIGNAL(image_bytes)`: one signal, for predicates and queries of users.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OneSignal {
    /// The name instead of the signal itself: DataFusion compares functions, and signals have no
    /// equality.
    name: &'static str,
    signature: Signature,
}

impl OneSignal {
    fn new(signal: &Signal) -> Self {
        let argument = if signal.needs == Needs::Text { DataType::Utf8 } else { DataType::Binary };
        OneSignal { name: signal.name, signature: Signature::exact(vec![argument], Volatility::Immutable) }
    }

    fn signal(&self) -> &'static Signal {
        lynxdata_filters::signal(self.name).expect("the function was made of a signal of the list")
    }

    fn measure(&self, pair: &Sample<'_>) -> Value {
        self.signal().measure(pair).expect("the function was made of a signal with a function")
    }
}

impl ScalarUDFImpl for OneSignal {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(data_type(self.signal()))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let signal = self.signal();
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let values: Vec<Value> = if signal.needs == Needs::Text {
            let captions = downcast::<StringArray>(&arrays[0], signal.name)?;
            captions.iter().map(|caption| self.measure(&Sample::new(caption, None))).collect()
        } else {
            let pictures = downcast::<BinaryArray>(&arrays[0], signal.name)?;
            (0..pictures.len())
                .into_par_iter()
                .map(|row| self.measure(&Sample::new(None, picture(pictures, row).as_ref())))
                .collect()
        };
        Ok(ColumnarValue::Array(column(signal, values.iter())?))
    }
}

/// `missing_if_nan(number)`: null in place of NaN. Rules are rewritten with it; see `select`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct MissingIfNan {
    signature: Signature,
}

impl MissingIfNan {
    fn new() -> Self {
        let types = [DataType::Float64, DataType::Float32, DataType::Float16];
        let types = types.map(|float| TypeSignature::Exact(vec![float]));
        MissingIfNan { signature: Signature::one_of(types.to_vec(), Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for MissingIfNan {
    fn name(&self) -> &'static str {
        "missing_if_nan"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments[0].clone())
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        Ok(ColumnarValue::Array(nan_as_null(&arrays[0])?))
    }
}
