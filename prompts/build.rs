//! Rebuilds the crate when a bank is added: `include_dir!` alone notices changed files only.

fn main() {
    println!("cargo:rerun-if-changed=banks");
}
