//! The messages of CRIU's RPC that are used here: structs with the field numbers of criu's public `rpc.proto` (protobuf 2).
//!
//! Pure: no process, no socket. A field that is not here is not asked for; unknown fields of a response are passed over.

use prost::Message;

/// `criu_req_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Dump = 1,
    Restore = 2,
    PreDump = 4,
    Notify = 6,
    FeatureCheck = 9,
    Version = 10,
}

/// `criu_req`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Request {
    #[prost(int32, required, tag = "1")]
    pub(super) kind: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) options: Option<Options>,
    #[prost(bool, optional, tag = "3")]
    pub(super) notify_success: Option<bool>,
    #[prost(message, optional, tag = "5")]
    pub(super) features: Option<Features>,
}

/// `criu_opts`. CRIU decides on fields that are `None` or empty.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Options {
    #[prost(int32, required, tag = "1")]
    pub(super) images_dir_fd: i32,
    #[prost(int32, optional, tag = "2")]
    pub(super) pid: Option<i32>,
    #[prost(bool, optional, tag = "3")]
    pub(super) leave_running: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    pub(super) ext_unix_sk: Option<bool>,
    #[prost(bool, optional, tag = "5")]
    pub(super) tcp_established: Option<bool>,
    #[prost(bool, optional, tag = "6")]
    pub(super) evasive_devices: Option<bool>,
    #[prost(bool, optional, tag = "7")]
    pub(super) shell_job: Option<bool>,
    #[prost(bool, optional, tag = "8")]
    pub(super) file_locks: Option<bool>,
    #[prost(int32, optional, tag = "9")]
    pub(super) log_level: Option<i32>,
    #[prost(string, optional, tag = "10")]
    pub(super) log_file: Option<String>,
    #[prost(message, optional, tag = "11")]
    pub(super) page_server: Option<PageServer>,
    #[prost(bool, optional, tag = "12")]
    pub(super) notify_scripts: Option<bool>,
    #[prost(string, optional, tag = "13")]
    pub(super) root: Option<String>,
    #[prost(string, optional, tag = "14")]
    pub(super) parent_img: Option<String>,
    #[prost(bool, optional, tag = "15")]
    pub(super) track_mem: Option<bool>,
    #[prost(bool, optional, tag = "16")]
    pub(super) auto_dedup: Option<bool>,
    #[prost(int32, optional, tag = "17")]
    pub(super) work_dir_fd: Option<i32>,
    #[prost(bool, optional, tag = "18")]
    pub(super) link_remap: Option<bool>,
    #[prost(message, repeated, tag = "23")]
    pub(super) ext_mnt: Vec<ExternalMount>,
    #[prost(bool, optional, tag = "24")]
    pub(super) manage_cgroups: Option<bool>,
    #[prost(message, repeated, tag = "25")]
    pub(super) cg_root: Vec<CgroupRoot>,
    #[prost(bool, optional, tag = "26")]
    pub(super) rst_sibling: Option<bool>,
    #[prost(message, repeated, tag = "27")]
    pub(super) inherit_fd: Vec<InheritFd>,
    #[prost(int32, optional, tag = "34")]
    pub(super) manage_cgroups_mode: Option<i32>,
    #[prost(string, repeated, tag = "37")]
    pub(super) external: Vec<String>,
    #[prost(uint32, optional, tag = "38")]
    pub(super) empty_ns: Option<u32>,
    #[prost(message, repeated, tag = "39")]
    pub(super) join_ns: Vec<JoinNamespace>,
    #[prost(string, repeated, tag = "43")]
    pub(super) cgroup_dump_controller: Vec<String>,
    #[prost(string, optional, tag = "44")]
    pub(super) freeze_cgroup: Option<String>,
    #[prost(bool, optional, tag = "46")]
    pub(super) tcp_skip_in_flight: Option<bool>,
    #[prost(bool, optional, tag = "48")]
    pub(super) lazy_pages: Option<bool>,
    #[prost(bool, optional, tag = "50")]
    pub(super) orphan_pts_master: Option<bool>,
    #[prost(string, optional, tag = "51")]
    pub(super) config_file: Option<String>,
    #[prost(string, optional, tag = "53")]
    pub(super) lsm_profile: Option<String>,
    #[prost(string, optional, tag = "63")]
    pub(super) lsm_mount_context: Option<String>,
    #[prost(int32, optional, tag = "64")]
    pub(super) network_lock: Option<i32>,
}

/// `criu_network_lock_method`: by the library it is linked with, where iptables's programs are missing.
pub(super) const NFTABLES: i32 = 2;

/// `criu_page_server_info`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PageServer {
    #[prost(string, optional, tag = "1")]
    pub(super) address: Option<String>,
    #[prost(int32, optional, tag = "2")]
    pub(super) port: Option<i32>,
}

/// `ext_mount_map`: a mount that CRIU neither saves nor restores by itself, with its name or source.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ExternalMount {
    #[prost(string, required, tag = "1")]
    pub(super) key: String,
    #[prost(string, required, tag = "2")]
    pub(super) value: String,
}

/// `cgroup_root`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct CgroupRoot {
    #[prost(string, optional, tag = "1")]
    pub(super) controllers: Option<String>,
    #[prost(string, required, tag = "2")]
    pub(super) path: String,
}

/// `inherit_fd`: what CRIU's descriptor `fd` stands for in the images.
#[derive(Clone, PartialEq, Message)]
pub(super) struct InheritFd {
    #[prost(string, required, tag = "1")]
    pub(super) key: String,
    #[prost(int32, required, tag = "2")]
    pub(super) fd: i32,
}

/// `join_namespace`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct JoinNamespace {
    #[prost(string, required, tag = "1")]
    pub(super) ns: String,
    #[prost(string, required, tag = "2")]
    pub(super) file: String,
}

/// `criu_features`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Features {
    #[prost(bool, optional, tag = "1")]
    pub(super) mem_track: Option<bool>,
    #[prost(bool, optional, tag = "2")]
    pub(super) lazy_pages: Option<bool>,
}

/// `criu_resp`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Response {
    #[prost(int32, required, tag = "1")]
    pub(super) kind: i32,
    #[prost(bool, required, tag = "2")]
    pub(super) success: bool,
    #[prost(message, optional, tag = "4")]
    pub(super) restore: Option<Restored>,
    #[prost(message, optional, tag = "5")]
    pub(super) notify: Option<Notice>,
    #[prost(int32, optional, tag = "7")]
    pub(super) errno: Option<i32>,
    #[prost(message, optional, tag = "8")]
    pub(super) features: Option<Features>,
    #[prost(message, optional, tag = "10")]
    pub(super) version: Option<Version>,
}

/// `criu_restore_resp`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Restored {
    #[prost(int32, required, tag = "1")]
    pub(super) pid: i32,
}

/// `criu_notify`: how far CRIU is. It waits for an answer.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Notice {
    #[prost(string, optional, tag = "1")]
    pub(super) script: Option<String>,
    #[prost(int32, optional, tag = "2")]
    pub(super) pid: Option<i32>,
}

/// `criu_version`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Version {
    #[prost(int32, required, tag = "1")]
    pub(super) major: i32,
    #[prost(int32, required, tag = "2")]
    pub(super) minor: i32,
    #[prost(int32, optional, tag = "4")]
    pub(super) sublevel: Option<i32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand from rpc.proto: the field's number and wire type, then its value.
    #[test]
    fn messages_have_the_bytes_of_rpc_proto() {
        let options = Options { images_dir_fd: 5, root: Some("/r".into()), ..Options::default() };
        let request =
            Request { kind: Kind::Dump as i32, options: Some(options), notify_success: None, features: None };
        assert_eq!(request.encode_to_vec(), [8, 1, 18, 6, 8, 5, 106, 2, b'/', b'r']);
        let bytes = [8, 6, 16, 1, 42, 10, 10, 6, b's', b'c', b'r', b'i', b'p', b't', 16, 7];
        let response = Response::decode(&bytes[..]).unwrap();
        let notice = response.notify.unwrap();
        assert_eq!((response.kind, response.success), (Kind::Notify as i32, true));
        assert_eq!((notice.script.as_deref(), notice.pid), (Some("script"), Some(7)));
        assert!(Response::decode(&[8, 6, 42, 200][..]).is_err());
    }
}
