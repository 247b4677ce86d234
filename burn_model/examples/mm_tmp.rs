#![allow(clippy::all, clippy::pedantic, missing_docs, clippy::print_stdout)]
use burn::tensor::{Device, Tensor};
use std::time::Instant;
fn time(name: &str, flop: f64, mut f: impl FnMut()) {
    for _ in 0..3 {
        f();
    }
    let mut best = f64::MAX;
    for _ in 0..15 {
        let t = Instant::now();
        f();
        best = best.min(t.elapsed().as_secs_f64());
    }
    println!("{name:40} {:8.1} us {:6.1} GFLOP/s", best * 1e6, flop / best / 1e9);
}
fn main() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    pool.install(|| {
        let d = Device::flex();
        let t = |s: [usize; 2]| Tensor::<2>::random(s, burn::tensor::Distribution::Default, &d);
        let (r, k, n) = (1024, 96, 256);
        let flop = 2.0 * (r * k * n) as f64;
        let (x, w) = (t([r, k]), t([k, n]));
        let mm = |what: &str| { let mut best = f64::MAX; for _ in 0..5 { let t = Instant::now(); let _ = x.clone().matmul(w.clone()); best = best.min(t.elapsed().as_secs_f64()); }
            println!("{what:40} {:.1}", flop / best / 1e9); };
        mm("before");
        let s = t([1000, 17]); let _ = burn::tensor::activation::softmax(s, 1); mm("softmax 17");
        let s = t([1000, 32]); let _ = burn::tensor::activation::softmax(s, 1); mm("softmax 32");
        let a = t([1000, 32]) + t([1000, 32]); mm("add");
        let _ = a.sum(); mm("sum");
        let s = t([1000, 64]); let _ = burn::tensor::activation::softmax(s, 1); mm("softmax 64");
        mm("later");
        let _ = burn::tensor::module::layer_norm(t([100, 96]), t([1, 96]).reshape([96]), None, 1e-5); mm("layer norm");
        let s = t([1000, 17]); let _ = burn::tensor::activation::softmax(s, 1); mm("softmax 17");
        let a = t([1000, 32]) + t([1000, 32]); mm("add");
        let _ = a.exp(); mm("exp");
    });
}
