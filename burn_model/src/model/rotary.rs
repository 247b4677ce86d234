//! Rotary position embedding (RoFormer, arXiv 2104.09864) in rotate-half order, as in LLaMA.

use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;

use crate::operation::{Input, Operation, apply, change, in_rows, numbers};

/// Rotates the pairs of `x` `[B, T, H · W]` by the angles with the given cosine and sine, `[1 or B,
/// T, H · W]`: in each head of width `head`, number i and number i + head / 2 are a pair.
///
/// `x` must be on flex, see [`apply`].
pub(super) fn rotate(head: usize, x: Tensor<3>, cosine: Tensor<3>, sine: Tensor<3>) -> Tensor<3> {
    let table = |table: Tensor<3>| in_rows(Input::from(table).plain());
    apply(Rotation { head, cosine: table(cosine), sine: table(sine) }, [x.into()])
}

#[derive(Clone, Debug)]
struct Rotation {
    head: usize,
    cosine: FlexTensor,
    sine: FlexTensor,
}

impl Rotation {
    /// Rotates forwards if `direction` is 1, backwards if it is -1.
    fn turn(&self, x: FlexTensor, direction: f32) -> FlexTensor {
        let (cosine, sine) = (numbers(&self.cosine), numbers(&self.sine));
        change(x, |x| pulp::Arch::new().dispatch(Turn { half: self.head / 2, direction, cosine, sine, x }))
    }
}

impl Operation<1> for Rotation {
    type Saved = ();

    fn forward(self, [x]: [FlexTensor; 1]) -> (FlexTensor, ()) {
        (self.turn(x, 1.0), ())
    }

    fn backward(self, _saved: (), gradient: FlexTensor, _wanted: [bool; 1]) -> [Option<FlexTensor>; 1] {
        [Some(self.turn(gradient, -1.0))]
    }
}

struct Turn<'a> {
    half: usize,
    direction: f32,
    cosine: &'a [f32],
    sine: &'a [f32],
    x: &'a mut [f32],
}

impl pulp::WithSimd for Turn<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        for x in self.x.chunks_exact_mut(self.cosine.len()) {
            let tables = self.cosine.chunks_exact(2 * self.half).zip(self.sine.chunks_exact(2 * self.half));
            for (x, (cosine, sine)) in x.chunks_exact_mut(2 * self.half).zip(tables) {
                let (first, second) = x.split_at_mut(self.half);
                // The angles of the second half are those of the first.
                for ((a, b), (cosine, sine)) in first.iter_mut().zip(second).zip(cosine.iter().zip(sine)) {
                    let sine = sine * self.direction;
                    (*a, *b) = (*a * cosine - *b * sine, *b * cosine + *a * sine);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::super::config::ModelConfig;
    use super::super::decoder::Layout;
    use crate::operation::tests::assert_same;

    #[test]
    fn a_turn_and_its_gradient_equal_the_composed_one() {
        let config = ModelConfig { decoder_dim: 24, decoder_heads: 2, ..Default::default() };
        let positions = [vec![0, 1, 2, 3], vec![0, 0, 1, 2]];
        let layout = Layout::new(&config, &positions, &[vec![true; 4], vec![true; 4]], &Device::flex());
        assert_same([[2, 3, 24]], |[x]| layout.rotate(x), |[x]| layout.composed_rotate(x));
        let layout = Layout::causal(&config, 4, &Device::flex());
        assert_same([[2, 4, 24]], |[x]| layout.rotate(x), |[x]| layout.composed_rotate(x));
    }
}
