//! Rebuilds the crate when a bank is added; `include_dir!` alone only detects changed files.

fn main() {
    println!("cargo:rerun-if-changed=banks");
}
