//! `containerd-shim-knarr-v2`, which containerd starts for a container or a pod.

fn main() -> std::process::ExitCode {
    shim::invoke::run(std::env::args_os(), shim::serve::main)
}
