//! A message, composed in a fixed buffer, because there is no other memory. What does not fit is cut off. This module does
//! not know where messages go.
use core::ffi::CStr;

/// A line of text with an end of line.
#[derive(Debug)]
pub struct Line {
    bytes: [u8; 400],
    len: usize,
}

impl Line {
    /// An empty line.
    pub const fn empty() -> Self {
        Self { bytes: [0; 400], len: 0 }
    }

    /// Appends bytes, as far as they fit.
    pub fn bytes(&mut self, bytes: impl Iterator<Item = u8>) -> &mut Self {
        // the last byte is for the end of the line
        let last = self.bytes.len() - 1;
        for byte in bytes.take(last.saturating_sub(self.len)) {
            if let Some(place) = self.bytes.get_mut(self.len) {
                *place = byte;
            }
            self.len += 1;
        }
        self
    }

    /// Appends a text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.bytes())
    }

    /// Appends a name in quotes, with `?` in place of control characters.
    pub fn quoted(&mut self, name: &[u8]) -> &mut Self {
        let plain = |b: &u8| if b.is_ascii_graphic() || *b == b' ' { *b } else { b'?' };
        self.text("\"").bytes(name.iter().map(plain)).text("\"")
    }

    /// Appends a number.
    pub fn number(&mut self, number: u32) -> &mut Self {
        let digit = |place: &u32| b'0' + (number / place % 10).to_le_bytes()[0];
        let places = [1_000_000_000, 100_000_000, 10_000_000, 1_000_000, 100_000, 10_000, 1000, 100, 10, 1];
        self.bytes(places.iter().skip_while(|place| **place > number && **place > 1).map(digit))
    }

    /// Appends a signal's name.
    pub fn signal(&mut self, signal: u8) -> &mut Self {
        match crate::signals::name(signal) {
            Some(name) => self.text("SIG").text(name),
            None => self.text("signal ").number(signal.into()),
        }
    }

    /// Appends the text of an error, with its name.
    pub fn error(&mut self, error: u32) -> &mut Self {
        match crate::messages::ERRORS.iter().find(|(number, _)| *number == error) {
            Some((_, text)) => self.text(text),
            None => self.text("error ").number(error),
        }
    }

    /// The line, with its end.
    pub fn end(&mut self) -> &[u8] {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = b'\n';
        }
        self.bytes.get(..=self.len).unwrap_or_default()
    }
}

/// Writes `NAME=NUMBER`, as in an environment, if it fits.
pub fn variable<'a>(buffer: &'a mut [u8], name: &str, number: u32) -> Option<&'a CStr> {
    let mut line = Line::empty();
    line.text(name).text("=").number(number);
    let text = line.bytes.get(..line.len)?;
    let (place, end) = buffer.get_mut(..=line.len)?.split_at_mut(line.len);
    place.copy_from_slice(text);
    end.fill(0);
    CStr::from_bytes_with_nul(buffer.get(..=line.len)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_was_appended() {
        let mut line = Line::empty();
        line.text("a ")
            .number(0)
            .text(" ")
            .number(4_294_967_295)
            .text(" ")
            .number(10)
            .text(" ")
            .quoted(b"b\x1b\nc");
        assert_eq!(line.end(), b"a 0 4294967295 10 \"b??c\"\n");
        let mut line = Line::empty();
        line.signal(15).text(" ").signal(40).text(": ").error(2).text(", ").error(4000);
        assert_eq!(line.end(), b"SIGTERM signal 40: no such file or directory (ENOENT), error 4000\n");
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_off_and_terminated() {
        let mut line = Line::empty();
        line.bytes([b'x'; 1000].into_iter()).text("y");
        assert_eq!((line.end().len(), line.end().last()), (400, Some(&b'\n')));
    }

    #[test]
    fn a_variable_must_fit_with_its_terminator() {
        let (mut room, mut small) = ([1; 10], [1; 4]);
        assert_eq!(variable(&mut room, "A", 123), Some(c"A=123"));
        assert_eq!(variable(&mut small, "A", 12), None);
    }
}
