//! Terminals: the console socket, the foreground proxy, sizes, the settings that runc's callers rely on.

use integration::lab::text;
use integration::terminal::{FdSocket, Terminal, start_on};
use integration::{Container, Kind, Lab, Outcome, Stop, Test, eq, has, hasnt, tests, yes};
use serde_json::json;

pub(crate) const TESTS: &[Test] = tests!["terminals":
    the_console_socket_receives_the_master,
    the_terminal_is_the_controlling_terminal_and_dev_console,
    a_foreground_terminal_does_not_turn_newlines_into_two_characters,
    a_terminal_that_is_handed_over_has_the_kernels_settings,
    the_console_size_of_the_configuration_is_set,
    the_terminal_belongs_to_the_user_of_the_process,
    a_detached_terminal_needs_a_console_socket,
    a_console_socket_without_a_terminal_is_refused,
    a_console_socket_that_is_not_there_is_refused,
    a_foreground_terminal_is_a_proxy_in_raw_mode,
    a_foreground_terminal_follows_the_size_of_the_window,
    a_foreground_exec_with_a_terminal_works,
    control_c_reaches_the_program_in_the_container,
    the_callers_terminal_is_as_before_afterwards,
    a_terminal_in_a_user_namespace_works,
    the_terminal_is_not_visible_through_a_hostile_pts,
];

/// Creates and starts a container with a terminal that runs `script`; gives its terminal.
fn with_terminal(lab: &Lab, c: &mut Container, script: &str) -> Result<Terminal, Stop> {
    c.config().set("/process/terminal", true).sh(script);
    let socket = FdSocket::listen(&lab.dir.join(format!("{}.sock", c.id.len())))?;
    c.bundle.write()?;
    let path = text(&socket.path);
    let running = lab.start(&["create", "--bundle", &c.bundle_arg(), "--console-socket", &path, &c.id])?;
    let (master, name) = socket.receive()?;
    running.wait()?.ok()?;
    yes(!name.is_empty(), "the message with the master has no bytes")?;
    c.start_ok()?;
    Ok(Terminal::new(master))
}

fn the_console_socket_receives_the_master(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    let mut terminal = with_terminal(lab, &mut c, "echo hello; read x; echo you said $x")?;
    terminal.read_until("hello")?;
    terminal.type_in("words\n")?;
    terminal.read_until("you said words")?;
    c.wait_for_status("stopped")?;
    c.delete()?.ok()?;
    Ok(())
}

fn the_terminal_is_the_controlling_terminal_and_dev_console(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    let script =
        "tty; stat -Lc '%t:%F' /dev/console; stat -c %t $(tty); echo to the console >/dev/tty; echo done";
    let mut terminal = with_terminal(lab, &mut c, script)?;
    let seen = terminal.read_until("done")?;
    has(&seen, "/dev/pts/0")?;
    // Unix98 pty slaves have major number 136 (88 in hexadecimal).
    has(&seen, "88:character special file")?;
    has(&seen, "to the console")?;
    c.wait_for_status("stopped")?;
    c.delete()?.ok()?;
    Ok(())
}

fn a_foreground_terminal_does_not_turn_newlines_into_two_characters(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "leaves ONLCR set")?;
    // The terminal of the caller does it, once; a second time would make a staircase of carriage returns.
    let mut c = lab.container()?;
    c.config().set("/process/terminal", true).sh("echo ready; read x; stty -a; echo done");
    c.bundle.write()?;
    let (mut terminal, slave) = Terminal::open(24, 80)?;
    let running = start_on(slave, &lab.command(&["run", "--bundle", &c.bundle_arg(), &c.id]))?;
    // By then the runtime has set up both terminals.
    terminal.read_until("ready")?;
    terminal.type_in("\n")?;
    let seen = terminal.read_until("done")?;
    running.wait()?.ok()?;
    has(&seen, "-onlcr")?;
    hasnt(&seen, "\r\r")
}

fn a_terminal_that_is_handed_over_has_the_kernels_settings(lab: &Lab) -> Outcome {
    // Engines hand its output on to a terminal in raw mode, which adds no carriage return of its own.
    let mut c = lab.container()?;
    let mut terminal = with_terminal(lab, &mut c, "stty -a; echo done")?;
    let seen = terminal.read_until("done\r\n")?;
    for mode in ["onlcr", "opost", "icrnl", "icanon", "isig", "echo"] {
        yes(seen.split_whitespace().any(|word| word == mode), format!("{mode} in {seen}"))?;
    }
    c.delete_force()
}

fn the_console_size_of_the_configuration_is_set(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().set("/process/consoleSize", json!({"height": 33, "width": 99}));
    let mut terminal = with_terminal(lab, &mut c, "stty size; echo done")?;
    has(terminal.read_until("done")?, "33 99")?;
    c.delete_force()
}

fn the_terminal_belongs_to_the_user_of_the_process(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let mut terminal = with_terminal(lab, &mut c, "stat -c 'owner %u' $(tty); echo x > $(tty); echo done")?;
    has(terminal.read_until("done")?, "owner 1000")?;
    c.delete_force()
}

fn a_detached_terminal_needs_a_console_socket(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().set("/process/terminal", true);
    c.create()?.refused()?;
    c.run_with(&["--detach"])?.refused()?;
    c.is_gone()
}

fn a_console_socket_without_a_terminal_is_refused(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "ignores the socket")?;
    let c = lab.container()?;
    let socket = FdSocket::listen(&lab.dir.join("tty.sock"))?;
    c.create_with(&["--console-socket", &text(&socket.path)])?.refused()?;
    c.is_gone()
}

fn a_console_socket_that_is_not_there_is_refused(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().set("/process/terminal", true);
    c.create_with(&["--console-socket", "/no/such/socket"])?.refused()?;
    let file = lab.file("not-a-socket", "")?;
    c.create_with(&["--console-socket", &text(&file)])?.refused()?;
    c.is_gone()
}

fn a_foreground_terminal_is_a_proxy_in_raw_mode(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().set("/process/terminal", true).sh("echo ready; read x; echo got $x; exit 5");
    c.bundle.write()?;
    let (mut terminal, slave) = Terminal::open(24, 80)?;
    let command = lab.command(&["run", "--bundle", &c.bundle_arg(), &c.id]);
    let running = start_on(slave, &command)?;
    terminal.read_until("ready")?;
    has(terminal.settings()?, "-icanon")?;
    terminal.type_in("typed\r")?;
    terminal.read_until("got typed")?;
    running.wait()?.status(5)?;
    c.is_gone()
}

fn a_foreground_terminal_follows_the_size_of_the_window(lab: &Lab) -> Outcome {
    lab.except(Kind::Crun, "does not copy the first size")?;
    let mut c = lab.container()?;
    let script = "while [ \"$(stty size 2>/dev/null)\" != '30 90' ]; do sleep 0.05; done
        trap 'echo now $(stty size)' WINCH; echo first; while :; do sleep 0.05; done";
    c.config().set("/process/terminal", true).sh(script);
    c.bundle.write()?;
    let (mut terminal, slave) = Terminal::open(30, 90)?;
    let command = lab.command(&["run", "--bundle", &c.bundle_arg(), &c.id]);
    let running = start_on(slave, &command)?;
    terminal.read_until("first")?;
    terminal.resize(41, 77)?;
    terminal.read_until("now 41 77")?;
    c.delete_force()?;
    running.wait()?.status(137)?;
    Ok(())
}

fn a_foreground_exec_with_a_terminal_works(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.sleeping()?;
    let (mut terminal, slave) = Terminal::open(24, 80)?;
    let script = "tty; while [ \"$(stty size 2>/dev/null)\" != '24 80' ]; do sleep 0.05; done; read x; echo got $x; exit 6";
    let command = lab.command(&["exec", "--tty", &c.id, "sh", "-c", script]);
    let running = start_on(slave, &command)?;
    terminal.read_until("/dev/pts/")?;
    terminal.type_in("typed\r")?;
    terminal.read_until("got typed")?;
    running.wait()?.status(6)?;
    c.delete_force()
}

fn control_c_reaches_the_program_in_the_container(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.sleeping()?;
    let (mut terminal, slave) = Terminal::open(24, 80)?;
    let script = "trap 'echo interrupted; exit 8' INT; echo ready; while :; do sleep 0.05; done";
    let command = lab.command(&["exec", "--tty", &c.id, "sh", "-c", script]);
    let running = start_on(slave, &command)?;
    terminal.read_until("ready")?;
    terminal.type_in("\u{3}")?;
    terminal.read_until("interrupted")?;
    running.wait()?.status(8)?;
    c.delete_force()
}

fn the_callers_terminal_is_as_before_afterwards(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().set("/process/terminal", true).sh("echo ready; read x");
    c.bundle.write()?;
    let (mut terminal, slave) = Terminal::open(24, 80)?;
    // Kept open, so that the settings outlive the runtime.
    let kept = slave.try_clone()?;
    let before = terminal.settings()?;
    let running = start_on(slave, &lab.command(&["run", "--bundle", &c.bundle_arg(), &c.id]))?;
    terminal.read_until("ready")?;
    terminal.type_in("\r")?;
    running.wait()?.ok()?;
    eq(terminal.settings()?, before, "settings of the terminal")?;
    drop(kept);
    Ok(())
}

fn a_terminal_in_a_user_namespace_works(lab: &Lab) -> Outcome {
    let mut c = lab.container()?;
    c.config().user_namespace(100_000, 65536);
    c.bundle.chown(100_000)?;
    let mut terminal = with_terminal(lab, &mut c, "tty; stat -c 'owner %u' $(tty); echo done")?;
    has(terminal.read_until("done")?, "owner 0")?;
    c.delete_force()
}

fn the_terminal_is_not_visible_through_a_hostile_pts(lab: &Lab) -> Outcome {
    // CVE-2025-52565: the runtime bound /dev/pts/N by path, where the image had put something else.
    let mut c = lab.container()?;
    let target = c.bundle.inside("/dev/pts/0");
    integration::rootfs::lay(&target, integration::rootfs::Trap::Link("/proc/sys/kernel/core_pattern"))?;
    c.config().without_mount("/dev/pts").without_mount("/dev").writable();
    c.config().set("/process/terminal", true).sh("stat -c %t /dev/console");
    let socket = FdSocket::listen(&lab.dir.join("tty.sock"))?;
    let created = c.create_with(&["--console-socket", &text(&socket.path)])?;
    if created.code == 0 {
        let (master, _) = socket.receive()?;
        let mut terminal = Terminal::new(master);
        c.start_ok()?;
        has(terminal.read_until("\n")?, "88")?;
        return c.delete_force();
    }
    created.refused()?;
    c.is_gone()
}
