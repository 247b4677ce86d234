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
        for (r, k, n) in [
            (1024, 96, 96),
            (1024, 96, 256),
            (1024, 256, 96),
            (544, 64, 64),
            (544, 64, 256),
            (544, 256, 64),
            (256, 96, 384),
            (256, 384, 96),
            (512, 96, 1024),
            (2048, 96, 256),
        ] {
            let flop = 2.0 * (r * k * n) as f64;
            let (x, w, g) = (t([r, k]), t([k, n]), t([r, n]));
            println!("-- {r} {k} {n}");
            time("fwd 2d", flop, || {
                let _ = x.clone().matmul(w.clone());
            });
            for rows in [32, 64, 128, 256] {
                if r % rows == 0 {
                    let xb = x.clone().reshape([r / rows, rows, k]);
                    time(&format!("fwd rows {rows}"), flop, || {
                        let _ = xb.clone().matmul(w.clone().unsqueeze::<3>());
                    });
                }
            }
            time("bwd x 2d", flop, || {
                let _ = g.clone().matmul(w.clone().swap_dims(0, 1));
            });
            let wt = w.clone().swap_dims(0, 1);
            let wt = (wt * 1.0).add_scalar(0.0);
            time("bwd x 2d contiguous wt", flop, || {
                let _ = g.clone().matmul(wt.clone());
            });
            for rows in [32, 64, 128, 256] {
                if r % rows == 0 {
                    let gb = g.clone().reshape([r / rows, rows, n]);
                    time(&format!("bwd x rows {rows}"), flop, || {
                        let _ = gb.clone().matmul(w.clone().swap_dims(0, 1).unsqueeze::<3>());
                    });
                }
            }
            time("bwd w 2d", flop, || {
                let _ = x.clone().swap_dims(0, 1).matmul(g.clone());
            });
            time("bwd w as (g^T x)^T", flop, || {
                let _ = g.clone().swap_dims(0, 1).matmul(x.clone());
            });
        }
    });
}
