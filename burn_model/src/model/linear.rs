//! The linear layer.

use burn::module::{Module, Param};
use burn::tensor::{Tensor, module::linear};

/// `x · weight + bias` over the last axis.
#[derive(Module, Debug)]
pub(super) struct Linear {
    /// `[inputs, outputs]`.
    pub(super) weight: Param<Tensor<2>>,
    /// `[outputs]`.
    pub(super) bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// `[…, inputs]` to `[…, outputs]`.
    pub(super) fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        // One large matrix product: burn would make one small product per sequence, which took over half of a step.
        let mut shape = x.dims();
        let inputs = shape[D - 1];
        let rows = shape[..D - 1].iter().product::<usize>();
        let weight = self.weight.val();
        shape[D - 1] = weight.dims()[1];
        let t = std::time::Instant::now();
        let y = linear(x.reshape([rows, inputs]), weight, self.bias.as_ref().map(Param::val));
        let e = t.elapsed().as_nanos() as usize;
        let i = N.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if let Some(s) = T.get(i) {
            s[0].store(e, std::sync::atomic::Ordering::Relaxed);
            s[1].store(rows * inputs * shape[D - 1] * 2, std::sync::atomic::Ordering::Relaxed);
            s[2].store(inputs * 10000 + shape[D - 1], std::sync::atomic::Ordering::Relaxed);
        }
        y.reshape(shape)
    }
}

#[allow(missing_docs)]
pub static N: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
#[allow(missing_docs)]
pub static T: [[std::sync::atomic::AtomicUsize; 3]; 2000] = [const { [const { std::sync::atomic::AtomicUsize::new(0) }; 3] }; 2000];
#[allow(missing_docs)]
pub fn dump() { for s in &T { let g = |i: usize| s[i].load(std::sync::atomic::Ordering::Relaxed); eprintln!("LIN {} {} {:.1}", g(2), g(1), g(1) as f64 / g(0) as f64); } }
