//! Rebuilds the crate when a task is added: `include_dir!` alone notices changed files only.

fn main() {
    println!("cargo:rerun-if-changed=tasks");
}
