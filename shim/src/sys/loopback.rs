//! Loop devices: a file as a block device.

use nix::errno::Errno;
use std::ffi::c_char;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

// linux/loop.h
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4c82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4c0a;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;

/// `struct loop_config` with its `struct loop_info64`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [c_char; 64],
    crypt_name: [c_char; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
    reserved: [u64; 8],
}

/// A loop device. The kernel releases it when neither this nor a mount uses it any more.
#[derive(Debug)]
pub(crate) struct Loop {
    _file: File,
    path: PathBuf,
}

impl Loop {
    /// Attaches `file` to a device; `direct` bypasses the page cache. LOOP_CONFIGURE needs Linux 5.8.
    pub(crate) fn attach(file: &Path, read_only: bool, direct: bool) -> Result<Self, (&'static str, Errno)> {
        let open = |path: &Path, what| {
            let errno = |e: std::io::Error| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO));
            OpenOptions::new().read(true).write(!read_only).open(path).map_err(|e| (what, errno(e)))
        };
        let backing = open(file, "open the file for the loop device")?;
        let control = File::open("/dev/loop-control").map_err(|e| {
            ("open \"/dev/loop-control\"", Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))
        })?;
        let flags = LO_FLAGS_AUTOCLEAR
            | if read_only { LO_FLAGS_READ_ONLY } else { 0 }
            | if direct { LO_FLAGS_DIRECT_IO } else { 0 };
        // Another process may take the free device first.
        for _ in 0..1000 {
            // SAFETY: an open descriptor and a request without an argument.
            let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
            let number = Errno::result(number).map_err(|e| ("ioctl(LOOP_CTL_GET_FREE)", e))?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = match open(&path, "open the loop device") {
                // In use by another process, and about to be released.
                Err((_, Errno::ENXIO)) => continue,
                other => other?,
            };
            match configure(&device, &backing, flags) {
                Ok(()) => return Ok(Loop { _file: device, path }),
                Err(Errno::EBUSY) => {}
                Err(e) => return Err(("ioctl(LOOP_CONFIGURE)", e)),
            }
        }
        Err(("ioctl(LOOP_CONFIGURE)", Errno::EBUSY))
    }

    /// The device.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn configure(device: &File, backing: &File, flags: u32) -> Result<(), Errno> {
    // SAFETY: all fields are integers, for which zeros are valid.
    let mut config: Config = unsafe { std::mem::zeroed() };
    config.fd = backing.as_raw_fd().unsigned_abs();
    config.flags = flags;
    // SAFETY: `config` is a loop_config and outlives the call, which only reads it.
    Errno::result(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) }).map(drop)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_structure_has_the_size_of_the_kernels() {
        assert_eq!(size_of::<super::Config>(), 8 + 232 + 64);
    }
}
