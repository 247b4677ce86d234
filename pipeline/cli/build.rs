//! Passes the kind of build to `lynxdata version`: the code cannot see it otherwise, because the
//! profile `dev` has no debug assertions in this crate.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Cargo sets it to `release` for every profile that inherits from `release`, else to `debug`.
    let profile = std::env::var("PROFILE").expect("cargo sets PROFILE for build scripts");
    println!("cargo::rustc-env=LYNXDATA_PROFILE={}", if profile == "debug" { "dev" } else { &profile });
}
