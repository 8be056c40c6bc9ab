//! The name of a user of the host, from /etc/passwd alone: a static binary must not load NSS modules.

/// The name of `uid`, or the empty string.
pub(crate) fn name(uid: u32) -> String {
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    find(&text, uid).unwrap_or_default().to_owned()
}

fn find(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_uid_is_looked_up_by_number() {
        let text = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/:/bin/false\nbroken\n";
        assert_eq!(
            (super::find(text, 33), super::find(text, 0), super::find(text, 7)),
            (Some("web"), Some("root"), None)
        );
    }
}
