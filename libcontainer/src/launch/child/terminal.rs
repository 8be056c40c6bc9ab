//! Steps for the container's terminal. It comes from the container's own devpts, and every file on the way is verified: nothing
//! in the root is trusted to be what its name says (CVE-2025-52565).

use super::{Child, Done, On, failed};
use crate::launch::frame::{Call, Frame};
use crate::plan::step::Slot;
use crate::rootfs::resolve::{self, Make};
use crate::sys::{fs, process, sock};
use std::os::fd::AsFd;

const DEVPTS_MAGIC: i64 = 0x1cd1;

impl Child<'_> {
    pub(super) fn console(&mut self, mounted: bool, size: Option<(u16, u16)>, uid: u32) -> Done {
        let flags = libc::O_RDWR | libc::O_NOCTTY;
        let master = resolve::open(self.fd(Slot::ROOT)?, c"/dev/pts/ptmx", flags).on(Call::Open)?;
        let stat = fs::fstat(master.as_fd()).on(Call::Fstat)?;
        let magic = fs::fstatfs(master.as_fd()).on(Call::Fstat)?.f_type;
        if stat.st_rdev != fs::device(5, 2) || magic != DEVPTS_MAGIC {
            return failed(Call::Verify, libc::ENOTTY);
        }
        let slave = process::terminal_peer(master.as_fd()).on(Call::Terminal)?;
        if let Some((rows, columns)) = size {
            process::set_window_size(slave.as_fd(), rows, columns).on(Call::Terminal)?;
        }
        // As for the other streams: an id that is not mapped stays as it is.
        let _ = fs::fchownat(slave.as_fd(), c"", uid, u32::MAX);
        if mounted {
            let target = resolve::create(self.fd(Slot::ROOT)?, c"/dev/console", Make::File { mode: 0o620 })
                .on(Call::Create)?;
            self.attach_file(slave.as_fd(), target.as_fd())?;
        }
        sock::send_fd(self.fd(Slot::SYNC)?, &Frame::Terminal.encode(), master.as_fd()).on(Call::Send)?;
        self.fds.set(Slot::TERMINAL, slave);
        Ok(())
    }

    pub(super) fn stdio_from_terminal(&mut self) -> Done {
        let slave = self.fd(Slot::TERMINAL)?;
        process::set_controlling_terminal(slave).on(Call::Terminal)?;
        for number in 0..3 {
            fs::dup_to(slave, number).on(Call::Dup)?;
        }
        self.fds.take(Slot::TERMINAL);
        Ok(())
    }
}
