//! Decides whether `knarr-init` is built without std and libc, with its own entry point, and passes that to the linker.
use std::env;
use std::path::Path;

const BARE: [&str; 3] = ["x86_64", "aarch64", "riscv64"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=sections.ld");
    println!("cargo::rustc-check-cfg=cfg(bare)");
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    if !BARE.contains(&arch.as_str()) || env::var_os("CARGO_FEATURE_STD").is_some() {
        return;
    }
    println!("cargo::rustc-cfg=bare");
    let sections = Path::new(&env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("sections.ld");
    // at a fixed address nothing must be relocated before the first instruction of Rust
    for argument in
        ["-nostartfiles", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", "-Wl,--no-eh-frame-hdr"]
    {
        println!("cargo::rustc-link-arg-bin=knarr-init={argument}");
    }
    println!("cargo::rustc-link-arg-bin=knarr-init=-Wl,-T,{}", sections.display());
}
