//! AppArmor: a profile for the program, and for what enters. Needs a kernel with AppArmor and its parser, as the lab's VM has them.

use std::fs;
use std::path::PathBuf;

use integration::lab::text;
use integration::{Kind, Lab, Outcome, Stop, Test, eq, has, skip, tests, yes};

pub(crate) const TESTS: &[Test] = tests!["apparmor":
    a_profile_confines_the_program,
    a_profile_confines_what_enters,
    exec_may_name_another_profile,
    a_profile_that_is_not_loaded_is_refused,
    unconfined_needs_nothing,
];

/// Profiles that are loaded for as long as this lives: all is allowed but to touch one file each.
struct Profiles {
    parser: PathBuf,
    file: PathBuf,
}

const FIRST: &str = "knarr-test-first";
const SECOND: &str = "knarr-test-second";

impl Profiles {
    fn load(lab: &Lab) -> Result<Self, Stop> {
        enabled()?;
        let parsers = ["/usr/sbin/apparmor_parser", "/sbin/apparmor_parser"];
        let Some(parser) = parsers.iter().map(PathBuf::from).find(|p| p.is_file()) else {
            return skip("no apparmor_parser on this machine: apt-get install apparmor");
        };
        let one = |name: &str, file: &str| {
            format!(
                "profile {name} flags=(attach_disconnected,mediate_deleted) {{\n  file,\n  capability,\n  network,\n  \
                 signal,\n  ptrace,\n  mount,\n  umount,\n  deny /tmp/{file} rw,\n}}\n"
            )
        };
        let file = lab.file("profiles", &format!("{}{}", one(FIRST, "first"), one(SECOND, "second")))?;
        lab.host(&[&text(&parser), "--replace", "--skip-cache", &text(&file)])?.ok()?;
        Ok(Profiles { parser, file })
    }
}

impl Drop for Profiles {
    fn drop(&mut self) {
        let mut command = integration::process::command(&self.parser);
        drop(command.arg("--remove").arg(&self.file).status());
    }
}

fn enabled() -> Outcome {
    let on = fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    if on.starts_with('Y') { Ok(()) } else { skip("this kernel runs without AppArmor") }
}

/// The profile, and which of the two files can be made.
const LOOK: &str = "cat /proc/self/attr/current; for f in first second; do
    ( echo x > /tmp/$f ) 2>/dev/null && echo $f made || echo $f denied; done";

fn a_profile_confines_the_program(lab: &Lab) -> Outcome {
    let _profiles = Profiles::load(lab)?;
    for no_new_privileges in [true, false] {
        let out = lab.sh(
            |c| {
                c.writable().set("/process/apparmorProfile", FIRST);
                c.set("/process/noNewPrivileges", no_new_privileges);
            },
            LOOK,
        )?;
        eq(out.as_str(), "knarr-test-first (enforce)\nfirst denied\nsecond made", "seen inside")?;
    }
    Ok(())
}

fn a_profile_confines_what_enters(lab: &Lab) -> Outcome {
    let _profiles = Profiles::load(lab)?;
    let mut c = lab.container()?;
    c.config().writable().set("/process/apparmorProfile", FIRST);
    c.sleeping()?;
    let out = c.exec(&["sh", "-c", LOOK])?.ok()?;
    eq(out.text(), "knarr-test-first (enforce)\nfirst denied\nsecond made", "seen by exec")?;
    c.delete_force()
}

fn exec_may_name_another_profile(lab: &Lab) -> Outcome {
    let _profiles = Profiles::load(lab)?;
    let mut c = lab.container()?;
    c.config().writable().set("/process/apparmorProfile", FIRST);
    c.sleeping()?;
    let out = c.exec_with(&["--apparmor", SECOND], &["sh", "-c", LOOK])?.ok()?;
    eq(out.text(), "knarr-test-second (enforce)\nfirst made\nsecond denied", "seen by exec")?;
    c.delete_force()
}

fn a_profile_that_is_not_loaded_is_refused(lab: &Lab) -> Outcome {
    enabled()?;
    let mut c = lab.container()?;
    c.config().set("/process/apparmorProfile", "knarr-test-none").args(&["true"]);
    let ended = c.run()?.refused()?;
    has(&ended.stderr, "knarr-test-none")?;
    yes(ended.stderr.to_lowercase().contains("apparmor"), ended.stderr)?;
    c.is_gone()
}

fn unconfined_needs_nothing(lab: &Lab) -> Outcome {
    if enabled().is_err() {
        lab.except(Kind::Runc, "needs AppArmor in the kernel even for unconfined")?;
    }
    let out = lab.sh(
        |c| {
            c.set("/process/apparmorProfile", "unconfined");
        },
        "echo fine",
    )?;
    eq(out.as_str(), "fine", "output")
}
