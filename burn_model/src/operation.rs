//! Operations with hand-written derivatives, for tensors of the flex backend.
//!
//! burn differentiates compositions of its own operations. That is exact, but a softmax or a norm
//! becomes half a dozen passes over memory, and as many again backwards. Here one operation is one
//! loop, compiled for the processor's widest instructions. Other backends keep the composition.

use std::fmt::Debug;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::NoCheckpointing};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Autodiff, BackendTensor, DispatchAutodiffContext, DispatchTensorKind, Flex, GradientCheckpointingStrategy,
    TensorMetadata,
};
use burn::tensor::{DType, Shape, Tensor, TensorData};

/// A float tensor of flex that autodiff follows.
type Taped = FloatTensor<Autodiff<Flex>>;

/// A function of `N` tensors, and its derivative.
pub(crate) trait Operation<const N: usize>: Clone + Debug + Send + 'static {
    /// The values that the derivative needs.
    type Saved: Clone + Debug + Send + 'static;

    /// Returns the output, and what its derivative needs.
    fn forward(self, inputs: [FlexTensor; N]) -> (FlexTensor, Self::Saved);

    /// Returns the gradients of the inputs from that of the output; for inputs that are not
    /// `wanted`, the result is ignored.
    fn backward(self, saved: Self::Saved, gradient: FlexTensor, wanted: [bool; N]) -> [Option<FlexTensor>; N];
}

/// An input of an operation.
pub(crate) enum Input {
    /// A tensor without gradients.
    Plain(FlexTensor),
    /// A tensor that autodiff follows.
    Taped(Taped),
}

impl<const D: usize> From<Tensor<D>> for Input {
    fn from(x: Tensor<D>) -> Self {
        let mut kind = x.into_dispatch().kind;
        if let DispatchTensorKind::Autodiff(inner) = kind {
            kind = *inner;
        }
        let DispatchTensorKind::Flex(x) = kind else { unreachable!("callers ask on_flex first") };
        match x {
            BackendTensor::Autodiff(x) => Self::Taped(x),
            x => Self::Plain(x.float()),
        }
    }
}

impl Input {
    /// Returns the tensor without autodiff, for inputs that need no gradient.
    pub(crate) fn plain(self) -> FlexTensor {
        match self {
            Self::Plain(x) => x,
            Self::Taped(x) => x.into_primitive(),
        }
    }

    fn taped(self) -> Taped {
        match self {
            Self::Plain(x) => Taped::new(x),
            Self::Taped(x) => x,
        }
    }
}

/// Returns whether [`apply`] works on a tensor: 32-bit floats on flex.
pub(crate) fn on_flex<const D: usize>(x: &Tensor<D>) -> bool {
    if x.dtype() != DType::F32 {
        return false;
    }
    let x = x.clone().into_dispatch();
    match (x.kind, x.autodiff) {
        (DispatchTensorKind::Flex(_), DispatchAutodiffContext::Disabled) => true,
        (
            DispatchTensorKind::Autodiff(kind),
            DispatchAutodiffContext::Enabled(GradientCheckpointingStrategy::Disabled),
        ) => matches!(*kind, DispatchTensorKind::Flex(BackendTensor::Autodiff(_))),
        _ => false,
    }
}

/// Applies an operation to inputs on flex.
pub(crate) fn apply<O: Operation<N>, const N: usize, const D: usize>(operation: O, inputs: [Input; N]) -> Tensor<D> {
    if inputs.iter().all(|input| matches!(input, Input::Plain(_))) {
        return Tensor::from_primitive::<Flex>(operation.forward(inputs.map(Input::plain)).0);
    }
    let inputs = inputs.map(Input::taped);
    let nodes = inputs.each_ref().map(Taped::node);
    let inputs = inputs.map(Taped::into_primitive);
    let output = match Step(operation.clone()).prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(step) => {
            let (output, saved) = operation.forward(inputs);
            step.finish(saved, output)
        }
        OpsKind::UnTracked(step) => step.finish(operation.forward(inputs).0),
    };
    Tensor::from_primitive::<Autodiff<Flex>>(output)
}

/// An operation on autodiff's tape.
#[derive(Debug)]
struct Step<O>(O);

impl<O: Operation<N>, const N: usize> Backward<Flex, N> for Step<O> {
    type State = O::Saved;

    fn backward(self, ops: Ops<Self::State, N>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<Flex>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let of_inputs = self.0.backward(ops.state, gradient, wanted);
        for (parent, gradient) in ops.parents.into_iter().zip(of_inputs) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                gradients.register::<Flex>(parent.id, gradient);
            }
        }
    }
}

/// Makes a tensor of numbers in row-major order.
pub(crate) fn tensor(values: Vec<f32>, shape: Shape) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// Returns a tensor in row-major order; copies it only if it is not.
pub(crate) fn in_rows(x: FlexTensor) -> FlexTensor {
    if x.is_contiguous() { x } else { x.to_contiguous() }
}

/// Borrows the numbers of a tensor that is [`in_rows`].
pub(crate) fn numbers(x: &FlexTensor) -> &[f32] {
    x.as_slice().expect("operations begin with in_rows, and on_flex has checked that these are f32")
}

/// Changes the numbers of a tensor, row by row; copies them only if another tensor shares them.
pub(crate) fn change(x: FlexTensor, change: impl FnOnce(&mut [f32])) -> FlexTensor {
    let [x] = change_all([x], |[x]| change(x));
    x
}

/// Changes the numbers of several tensors together.
pub(crate) fn change_all<const N: usize>(
    tensors: [FlexTensor; N],
    change: impl FnOnce([&mut [f32]; N]),
) -> [FlexTensor; N] {
    let mut whole = tensors.map(|x| {
        let whole = x.to_contiguous();
        drop(x); // a second owner would force a copy
        whole
    });
    change(whole.each_mut().map(FlexTensor::storage_mut));
    whole
}

/// Returns the length of the last axis.
pub(crate) fn width(x: &FlexTensor) -> usize {
    x.shape()[x.shape().num_dims() - 1]
}

/// Sums `term` over two rows in eight partial sums, which fit one register.
#[inline(always)]
pub(crate) fn sum(x: &[f32], y: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<8>(), y.as_chunks::<8>());
    let mut sums = [0.0_f32; 8];
    for (x, y) in x.iter().zip(y) {
        for (sum, (x, y)) in sums.iter_mut().zip(x.iter().zip(y)) {
            *sum += term(*x, *y);
        }
    }
    let rest: f32 = x_rest.iter().zip(y_rest).map(|(x, y)| term(*x, *y)).sum();
    sums.iter().sum::<f32>() + rest
}

/// Computes e^x with a relative error of at most 2 · 10^-7. Above x = 88 it returns e^88, below x =
/// -87 it returns 0.
///
/// The polynomial is that of `expf` in Cephes (netlib.org/cephes).
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    /// Adding it rounds to an integer, which is then in the lowest bits.
    const ROUNDING: f32 = 12_582_912.0;
    /// ln 2 in two parts; the first has so few digits that its product with an integer is exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    const POLYNOMIAL: [f32; 6] = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5];
    let limited = if x > 88.0 { 88.0 } else { x };
    let rounded = limited * std::f32::consts::LOG2_E + ROUNDING;
    let power = rounded - ROUNDING;
    let rest = limited - power * LN_2[0] - power * LN_2[1];
    let mut sum = POLYNOMIAL[0];
    for coefficient in &POLYNOMIAL[1..] {
        sum = sum * rest + coefficient;
    }
    let fraction = sum * rest * rest + rest + 1.0;
    let two_to_power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(1.0_f32.to_bits()));
    if x < -87.0 { 0.0 } else { fraction * two_to_power }
}

/// Returns the largest number of a row; eight at a time, which fit one register.
#[inline(always)]
pub(crate) fn largest(row: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let (eights, rest) = row.as_chunks::<8>();
    let mut largest = [f32::NEG_INFINITY; 8];
    for eight in eights {
        for (largest, number) in largest.iter_mut().zip(eight) {
            *largest = larger(*largest, *number);
        }
    }
    largest.iter().chain(rest).fold(f32::NEG_INFINITY, |a, b| larger(a, *b))
}

#[cfg(test)]
pub(crate) mod tests {
    use burn::tensor::Device;

    use super::*;

    /// Asserts that two functions have the same values and gradients.
    pub(crate) fn assert_same<const N: usize>(
        shapes: [[usize; 3]; N],
        one: impl Fn([Tensor<3>; N]) -> Tensor<3>,
        other: impl Fn([Tensor<3>; N]) -> Tensor<3>,
    ) {
        let results = |function: &dyn Fn([Tensor<3>; N]) -> Tensor<3>| {
            let device = Device::flex().autodiff();
            let numbers = |shape: [usize; 3], step: f32| {
                let values = (0..shape.iter().product::<usize>()).map(|place| 3.0 * (place as f32 * step).sin());
                Tensor::<3>::from_data(TensorData::new(values.collect(), shape), &device)
            };
            let inputs = shapes.map(|shape| numbers(shape, 1.7).require_grad());
            let output = function(inputs.clone());
            let objective = (output.clone() * numbers(output.dims(), 0.9)).sum();
            let gradients = objective.backward();
            let gradients = inputs.map(|input| input.grad(&gradients).expect("all inputs are used"));
            let tensors = gradients.into_iter().chain([output.inner()]);
            tensors.flat_map(|tensor| tensor.try_into_vec_as::<f32>().unwrap()).collect::<Vec<f32>>()
        };
        let (one, other) = (results(&one), results(&other));
        assert_eq!(one.len(), other.len());
        for (one, other) in one.iter().zip(&other) {
            assert!((one - other).abs() <= 3e-6 * one.abs().max(1.0), "{one} {other}");
        }
    }

    #[test]
    fn a_shared_tensor_is_not_changed() {
        let x = tensor(vec![1.0, 2.0], Shape::from([2]));
        let changed = change(x.clone(), |x| x[0] = 5.0);
        assert_eq!((numbers(&x), numbers(&changed)), (&[1.0, 2.0][..], &[5.0, 2.0][..]));
    }

    #[test]
    fn sums_what_does_not_fill_a_register() {
        let x: Vec<f32> = (0..19).map(|place| place as f32).collect();
        assert!((sum(&x, &x, |x, y| x * y) - 2109.0).abs() < 1e-3);
    }

    #[test]
    fn exp_is_as_exact_as_documented() {
        for place in 0..=200_000 {
            let x = -87.0 + 175.0 * place as f32 / 200_000.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) / exact - 1.0).abs() < 2e-7, "{x}");
        }
        assert_eq!((exp(0.0), exp(-87.1), exp(f32::MIN)), (1.0, 0.0, 0.0));
        assert!(exp(f32::INFINITY).is_finite() && exp(f32::NAN).is_nan());
    }
}
