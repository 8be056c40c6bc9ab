//! Links the shim at a fixed address. A position-independent static program writes its address into a hundred kilobytes of tables at its
//! start, and each of a host's many shims would have its own copy of them in memory.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_FEATURE")
        .is_ok_and(|features| features.split(',').any(|f| f == "crt-static"))
    {
        for argument in ["-no-pie", "-static"] {
            println!("cargo:rustc-link-arg-bin=containerd-shim-knarr-v2={argument}");
        }
    }
}
