//! Links the shim at a fixed address: a static program that may be loaded anywhere has to write its own address into a hundred
//! kilobytes of tables when it starts, and each of a host's many shims would keep a copy of its own of them.

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
