//! The table of options, and what combinations of them mean.

use super::*;

fn options(text: &str) -> MountOptions {
    parse(&text.split(' ').map(str::to_owned).collect::<Vec<_>>()).unwrap()
}

#[test]
fn every_option_is_found_and_none_is_taken_for_one_of_the_file_system() {
    assert!(TABLE.is_sorted_by(|a, b| a.0 < b.0));
    let names = "async atime bind defaults dev diratime dirsync exec idmap iversion lazytime loud mand noatime nodev nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime rbind rdev rdiratime relatime remount rexec ridmap rnoatime rnodev rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid rsymfollow runbindable rw shared silent slave strictatime suid symfollow sync tmpcopyup unbindable";
    assert_eq!(mount_options().collect::<Vec<_>>().join(" "), names);
    for name in mount_options() {
        assert!(lookup(name).is_some(), "{name}");
        assert_eq!(options(name).data, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn a_change_of_attributes_is_shown_by_the_options_that_ask_for_it() {
    for (text, shown) in [
        ("ro nosuid nodev noexec nosymfollow", "ro nosuid nodev noexec nosymfollow"),
        ("noatime nodiratime", "nodiratime noatime"),
        ("ro dev", "ro dev"),
        ("rw suid dev exec", "rw suid dev exec"),
        (
            "rro rnosuid rnodev rnoexec rnodiratime rnosymfollow",
            "rro rnosuid rnodev rnoexec rnodiratime rnosymfollow",
        ),
        ("rrw rsuid rdev rexec rdiratime rsymfollow", "rrw rsuid rdev rexec rdiratime rsymfollow"),
        ("rnoatime", "rnoatime"),
        ("rstrictatime", "rstrictatime"),
        ("slave rshared", "slave rshared"),
    ] {
        assert_eq!(names(&options(text).changed_attr()).join(" "), shown, "{text}");
    }
    assert_eq!(propagation_name(0), "unchanged");
}

#[test]
fn a_new_mount_has_the_attributes_that_are_named() {
    for (text, set) in [
        ("defaults", 0),
        ("nosuid noexec nodev", 0xe),
        ("ro rw", 0),
        ("rw ro", 1),
        ("relatime", 0),
        ("noatime nodiratime", 0x90),
        ("noatime strictatime", 0x20),
        ("nosymfollow", 0x20_0000),
        ("suid dev exec atime", 0),
    ] {
        assert_eq!(options(text).new_attr().set, set, "{text}");
    }
}

#[test]
fn a_bind_keeps_the_flags_of_its_source_until_one_is_named() {
    let all = 0x20_000f;
    // (options, set, clear, implied)
    for (text, set, clear, implied) in [
        ("bind", 0, 0, 0),
        ("rbind rprivate", 0, 0, 0),
        ("bind ro", 1, all & !1, 0xe),
        ("bind rw", 0, all, 0xe),
        ("bind dev", 0, all, 0xb),
        ("bind nosuid nodev", 6, all & !6, 9),
        ("bind ro symfollow", 1, all & !1, 0xe),
        // access times stay until a mode is named, which none of these does
        ("bind atime", 0, all, 0xf),
        ("bind norelatime", 0, all, 0xf),
        ("bind relatime", 0, all | 0xf0, 0xf),
        ("bind nodiratime", 0x80, all | 0x70, 0xf),
        ("bind nodiratime strictatime", 0xa0, all | 0x70, 0xf),
        ("bind strictatime", 0x20, all | 0xf0, 0xf),
    ] {
        let attr = options(text).changed_attr();
        assert_eq!((attr.set, attr.clear, attr.implied), (set, clear, implied), "{text}");
    }
}

#[test]
fn recursive_attributes_apply_to_the_tree() {
    for (text, set, clear) in [
        ("rro", 1, 0),
        ("rro rrw", 0, 1),
        ("rrw rro", 1, 0),
        ("rnosuid rnodev rnoexec", 0xe, 0),
        ("rnoatime", 0x10, 0x70),
        ("rnoatime rstrictatime", 0x20, 0x70),
        ("rrelatime", 0, 0x70),
        ("ratime", 0, 0x70),
        ("rnoatime rnostrictatime", 0x10, 0x70),
        ("rnoatime ratime", 0, 0x70),
        ("rdiratime", 0, 0x80),
        ("rsymfollow", 0, 0x20_0000),
    ] {
        let attr = options(&format!("rbind {text}")).changed_attr();
        assert_eq!((attr.rec_set, attr.rec_clear), (set, clear), "{text}");
        assert_eq!((attr.set, attr.clear), (0, 0), "{text}");
    }
}

#[test]
fn propagation_changes_keep_their_order_and_two_are_enough() {
    let attr = options("bind rslave rshared").changed_attr();
    assert_eq!(attr.propagation[0], Propagation { flag: libc::MS_SLAVE, recursive: true });
    assert_eq!(attr.propagation[1], Propagation { flag: libc::MS_SHARED, recursive: true });
    assert_eq!(attr.propagation[2].flag, 0);
    assert_eq!(options("bind private private").propagation.len(), 1);
    assert!(parse(&["slave", "shared", "private"].map(String::from)).is_err());
    assert_eq!(propagation("rslave"), Some(libc::MS_SLAVE | libc::MS_REC));
    assert_eq!(propagation("ro"), None);
}

fn shown(options: &FsOptions) -> String {
    let words: Vec<_> = options
        .options
        .iter()
        .map(|option| match option {
            FsOption::Flag(key) => key.to_string_lossy().into_owned(),
            FsOption::Text(key, value) => {
                format!("{}:{}", key.to_string_lossy(), value.to_string_lossy())
            }
        })
        .collect();
    words.join(" ")
}

#[test]
fn other_options_go_to_the_file_system_and_superblock_flags_by_name() {
    for (text, words, data, flags, classic) in [
        ("nosuid mode=755 size=65536k", "mode:755 size:65536k", "mode=755,size=65536k", 0, false),
        ("newinstance ptmxmode=0666", "newinstance ptmxmode:0666", "newinstance,ptmxmode=0666", 0, false),
        ("mode=755,size=4k", "mode:755 size:4k", "mode=755,size=4k", 0, false),
        ("sync lazytime", "sync lazytime", "", libc::MS_SYNCHRONOUS | libc::MS_LAZYTIME, false),
        ("sync async", "", "", 0, false),
        ("iversion", "", "", libc::MS_I_VERSION, true),
        ("silent loud", "", "", 0, false),
        ("ro", "ro", "", libc::MS_RDONLY, false),
        ("lowerdir=/a\\,b:/c", "lowerdir:/a\\,b:/c", "lowerdir=/a\\,b:/c", 0, false),
    ] {
        let fs = options(text).for_fs(true, None).unwrap();
        assert_eq!(shown(&fs), words, "{text}");
        assert_eq!((fs.data.to_str().unwrap(), fs.flags, fs.classic), (data, flags, classic), "{text}");
    }
    assert_eq!(shown(&options("ro").for_fs(false, None).unwrap()), "");
    let long = format!("lowerdir={}", "/l".repeat(200));
    assert!(options(&long).for_fs(false, None).unwrap().classic);
}

#[test]
fn a_label_with_commas_is_one_option() {
    let fs = options("mode=755").for_fs(false, Some("u:r:t:s0:c1,c2")).unwrap();
    assert_eq!(shown(&fs), "mode:755 context:u:r:t:s0:c1,c2");
    assert_eq!(fs.data.to_str().unwrap(), "mode=755,context=\"u:r:t:s0:c1,c2\"");
    assert!(options("mode=755").has_data("mode") && !options("size=1").has_data("mode"));
}

#[test]
fn flags_of_bind_and_tmpfs_are_told_apart() {
    let o = options("rbind remount tmpcopyup ridmap sync");
    assert!(o.bind && o.recursive && o.remount && o.copy_up);
    assert_eq!(o.idmap, Some(true));
    assert_eq!(o.superblock_names(), ["sync"]);
    assert!(parse(&["a\0b".to_owned()]).is_err());
}

#[test]
fn every_attribute_can_also_be_set_by_mount_2() {
    use crate::sys::Errno;
    use crate::sys::mount::flags_of;
    for attribute in ATTRIBUTES {
        assert!(flags_of(attribute.bit).is_ok_and(|flag| flag != 0), "{}: not in sys::mount", attribute.set);
    }
    assert_eq!(flags_of(MOUNT_ATTR_ATIME), Ok(libc::MS_NOATIME | libc::MS_STRICTATIME));
    assert_eq!(flags_of(MOUNT_ATTR_RDONLY | 0x8000_0000), Err(Errno(libc::EINVAL)));
}
