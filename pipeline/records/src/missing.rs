//! NaN as a missing value.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, make_array};
use arrow::compute::nullif;
use arrow::datatypes::{DataType, Float16Type, Float32Type, Float64Type};
use arrow::error::ArrowError;

/// Returns an array with null in place of NaN, also inside structs, lists and maps. pandas and
/// NumPy write NaN for a missing value.
///
/// # Errors
/// If a nested array does not allow nulls in a child.
pub fn nan_as_null(values: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    fn where_nan<T: ArrowPrimitiveType>(values: &ArrayRef, is_nan: impl Fn(T::Native) -> bool) -> BooleanArray {
        values.as_primitive::<T>().iter().map(|value| Some(value.is_some_and(&is_nan))).collect()
    }
    let is_nan = match values.data_type() {
        DataType::Float16 => where_nan::<Float16Type>(values, <Float16Type as ArrowPrimitiveType>::Native::is_nan),
        DataType::Float32 => where_nan::<Float32Type>(values, f32::is_nan),
        DataType::Float64 => where_nan::<Float64Type>(values, f64::is_nan),
        nested if nested.is_nested() => return within(values),
        _ => return Ok(Arc::clone(values)),
    };
    nullif(values, &is_nan)
}

/// Returns a nested array with null in place of NaN in its children.
fn within(values: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let data = values.to_data();
    let children = data.child_data().iter().map(|child| Ok(nan_as_null(&make_array(child.clone()))?.to_data()));
    let children = children.collect::<Result<Vec<_>, ArrowError>>()?;
    Ok(make_array(data.into_builder().child_data(children).build()?))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float32Array, Float64Array, ListArray, StringArray, StructArray};
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::Field;

    use super::*;

    #[test]
    fn nan_is_null_at_any_depth_and_other_values_stay() {
        let floats =
            Arc::new(Float64Array::from(vec![Some(1.5), Some(f64::NAN), None, Some(f64::INFINITY)])) as ArrayRef;
        let expected = Arc::new(Float64Array::from(vec![Some(1.5), None, None, Some(f64::INFINITY)])) as ArrayRef;
        let list = |values: &ArrayRef| {
            let item = Arc::new(Field::new_list_field(DataType::Float64, true));
            Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([1, 3]), Arc::clone(values), None)) as ArrayRef
        };
        let within = |values: &ArrayRef| {
            let field = Arc::new(Field::new("list", list(values).data_type().clone(), true));
            Arc::new(StructArray::from(vec![(field, list(values))])) as ArrayRef
        };
        assert_eq!(&nan_as_null(&floats).unwrap(), &expected);
        assert_eq!(&nan_as_null(&within(&floats)).unwrap(), &within(&expected));
        // The second half of a larger array.
        assert_eq!(&nan_as_null(&within(&floats).slice(1, 1)).unwrap(), &within(&expected).slice(1, 1));
        let negative = Arc::new(Float32Array::from(vec![-f32::NAN])) as ArrayRef;
        assert_eq!(nan_as_null(&negative).unwrap().null_count(), 1);
        let texts = Arc::new(StringArray::from(vec!["NaN"])) as ArrayRef;
        assert_eq!(&nan_as_null(&texts).unwrap(), &texts);
    }
}
