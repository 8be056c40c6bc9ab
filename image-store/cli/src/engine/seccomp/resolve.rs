//! Turns a profile in Docker's format, with rules for certain capabilities, architectures and kernels only, into config.json's. No I/O.
//!
//! The rules are moby's (seccomp_linux.go and kernel_linux.go of the repository moby/profiles). libcontainer's tests include this file,
//! to check the compiled default profile; so it depends on `serde` and `serde_json` only.

use serde_json::{Value, json};

/// What rules depend on besides capabilities.
pub(crate) struct Machine {
    /// The architecture as libseccomp names it.
    pub(crate) libseccomp: &'static str,
    /// The same as Go names it.
    pub(crate) go: &'static str,
    pub(crate) kernel: (u32, u32),
}

pub(crate) fn resolve(profile: &Value, machine: &Machine, capabilities: &[String]) -> Value {
    let mut resolved = profile.clone();
    let Some(fields) = resolved.as_object_mut() else { return resolved };
    if let Some(machines) = fields.remove("archMap") {
        let own = |other: &&Value| other["architecture"] == machine.libseccomp;
        let own = machines.as_array().into_iter().flatten().find(own);
        let more = own.and_then(|m| m["subArchitectures"].as_array()).into_iter().flatten().cloned();
        fields.insert(
            "architectures".to_owned(),
            [json!(machine.libseccomp)].into_iter().chain(more).collect(),
        );
    }
    let rules = fields.get("syscalls").and_then(Value::as_array).cloned().unwrap_or_default();
    let kept = rules.into_iter().filter(|rule| holds(rule, machine, capabilities)).map(|mut rule| {
        if let Some(rule) = rule.as_object_mut() {
            rule.retain(|key, value| {
                ["names", "action", "errnoRet", "args"].contains(&&**key) && !value.is_null()
            });
        }
        rule
    });
    fields.insert("syscalls".to_owned(), kept.collect());
    resolved
}

/// Whether a rule applies: it needs all capabilities and one of the architectures that it includes, and none that it excludes.
fn holds(rule: &Value, machine: &Machine, capabilities: &[String]) -> bool {
    let has = |name: &Value| capabilities.iter().any(|own| name == own.as_str());
    let list = |side: &str, key: &str| rule[side][key].as_array().cloned().unwrap_or_default();
    let machines = list("includes", "arches");
    let since = |side: &str| rule[side]["minKernel"].as_str().map(version);
    list("includes", "caps").iter().all(has)
        && !list("excludes", "caps").iter().any(has)
        && (machines.is_empty() || machines.iter().any(|m| m == machine.go))
        && !list("excludes", "arches").iter().any(|m| m == machine.go)
        && since("includes").is_none_or(|kernel| machine.kernel >= kernel)
        && since("excludes").is_none_or(|kernel| machine.kernel < kernel)
}

/// `6.18.5-cloud` as (6, 18).
pub(crate) fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Denies `socketcall` in a resolved profile. With it, 32-bit programs of x86 can create sockets of any address family, since a filter
/// cannot see its arguments. After ENOSYS, many programs use the single calls instead.
pub(crate) fn refuse_socketcall(resolved: &mut Value) {
    let Some(rules) = resolved["syscalls"].as_array_mut() else { return };
    for names in rules.iter_mut().filter_map(|rule| rule["names"].as_array_mut()) {
        names.retain(|name| name != "socketcall");
    }
    rules.push(json!({ "names": ["socketcall"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }));
}
