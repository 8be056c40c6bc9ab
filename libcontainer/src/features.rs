//! The features of the library, in the format of features.md of the OCI runtime specification. Engines read the document before they use a runtime.
//!
//! The `features` command and a shim's `-info` return the same document. It does not depend on the host.

use crate::plan::options::mount_options;
use serde::Serialize;
use std::collections::BTreeMap;

/// The document, to be serialized.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Features {
    oci_version_min: &'static str,
    oci_version_max: &'static str,
    hooks: &'static [&'static str],
    mount_options: Vec<&'static str>,
    linux: Linux,
    annotations: BTreeMap<&'static str, String>,
    potentially_unsafe_config_annotations: &'static [&'static str],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    namespaces: &'static [&'static str],
    capabilities: &'static [&'static str],
    cgroup: Cgroup,
    seccomp: Seccomp,
    apparmor: Enabled,
    selinux: Enabled,
    intel_rdt: Enabled,
    mount_extensions: MountExtensions,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Cgroup {
    v1: bool,
    v2: bool,
    systemd: bool,
    systemd_user: bool,
    rdma: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Seccomp {
    enabled: bool,
    actions: &'static [&'static str],
    operators: &'static [&'static str],
    archs: &'static [&'static str],
    known_flags: &'static [&'static str],
    supported_flags: &'static [&'static str],
}

#[derive(Debug, Serialize)]
struct Enabled {
    enabled: bool,
}

#[derive(Debug, Serialize)]
struct MountExtensions {
    idmap: Enabled,
}

impl Features {
    /// The newest supported version of the OCI runtime specification.
    pub const SPECIFICATION: &str = "1.2.1";

    /// The features of this library, with annotations of the program that uses it.
    pub fn new(annotations: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        // Docker and containerd check this one before they try a checkpoint, for any runtime.
        let checkpoint = ("org.opencontainers.runc.checkpoint.enabled", "true".to_owned());
        let annotations = annotations.into_iter().chain([checkpoint]).collect();
        Self {
            oci_version_min: "1.0.0",
            oci_version_max: Self::SPECIFICATION,
            hooks: &[
                "prestart",
                "createRuntime",
                "createContainer",
                "startContainer",
                "poststart",
                "poststop",
            ],
            mount_options: mount_options().collect(),
            linux: Linux {
                namespaces: &["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
                capabilities: CAPABILITIES,
                cgroup: Cgroup { v1: true, v2: true, systemd: false, systemd_user: false, rdma: true },
                seccomp: Seccomp {
                    enabled: cfg!(feature = "seccomp"),
                    actions: SECCOMP_ACTIONS,
                    operators: SECCOMP_OPERATORS,
                    archs: SECCOMP_ARCHITECTURES,
                    known_flags: SECCOMP_FLAGS,
                    supported_flags: SECCOMP_FLAGS,
                },
                apparmor: Enabled { enabled: true },
                selinux: Enabled { enabled: true },
                intel_rdt: Enabled { enabled: false },
                mount_extensions: MountExtensions { idmap: Enabled { enabled: true } },
            },
            annotations,
            potentially_unsafe_config_annotations: &[],
        }
    }
}

const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

const SECCOMP_ACTIONS: &[&str] = &[
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

const SECCOMP_OPERATORS: &[&str] = &[
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];

const SECCOMP_ARCHITECTURES: &[&str] = &[
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
];

const SECCOMP_FLAGS: &[&str] =
    &["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_LOG"];
