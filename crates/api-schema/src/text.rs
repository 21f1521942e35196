//! JSON text: a scanner whose errors read as those of Go's `encoding/json`, and Go's quoting.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Go's `strconv.Quote`, short of unprintable characters beyond ASCII.
pub(crate) fn go_quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        escape(c, '"', &mut out);
    }
    out.push('"');
    out
}

fn escape(c: char, quote: char, out: &mut String) {
    match c {
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\t' => out.push_str("\\t"),
        '\r' => out.push_str("\\r"),
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0b' => out.push_str("\\v"),
        '\x0c' => out.push_str("\\f"),
        c if c == quote => {
            out.push('\\');
            out.push(c);
        }
        c if (c as u32) < 0x20 || c == '\x7f' => {
            let _ = write!(out, "\\x{:02x}", c as u32);
        }
        c => out.push(c),
    }
}

/// What a value starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    Object,
    Array,
    String,
    Number,
    True,
    False,
    Null,
}

/// A position in JSON text. Errors are the texts that Go prints.
pub(crate) struct Scanner<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Scanner<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    pub fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.bytes.get(self.position) {
            self.position += 1;
        }
        self.bytes.get(self.position).copied()
    }

    pub fn bump(&mut self) {
        self.position += 1;
    }

    /// Goes one character on when it is `wanted`.
    pub fn accept(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.position += usize::from(found);
        found
    }

    pub fn expect(&mut self, wanted: u8, context: &str) -> Result<(), String> {
        if self.accept(wanted) { Ok(()) } else { Err(self.invalid(context)) }
    }

    /// The error about the character at the position.
    pub fn invalid(&self, context: &str) -> String {
        let Some(&byte) = self.bytes.get(self.position) else { return "unexpected end of JSON input".to_owned() };
        let mut quoted = String::new();
        escape(char::from(byte), '\'', &mut quoted);
        format!("invalid character '{quoted}' {context}")
    }

    /// What comes next; scalars stay unread.
    pub fn token(&mut self) -> Result<Token, String> {
        Ok(match self.peek() {
            Some(b'{') => Token::Object,
            Some(b'[') => Token::Array,
            Some(b'"') => Token::String,
            Some(b't') => Token::True,
            Some(b'f') => Token::False,
            Some(b'n') => Token::Null,
            Some(b'-' | b'0'..=b'9') => Token::Number,
            _ => return Err(self.invalid("looking for beginning of value")),
        })
    }

    pub fn end(&mut self) -> Result<(), String> {
        if self.peek().is_none() { Ok(()) } else { Err(self.invalid("after top-level value")) }
    }

    /// Reads `true`, `false` or `null`.
    pub fn word(&mut self, word: &str) -> Result<(), String> {
        for expected in word.bytes() {
            if self.bytes.get(self.position) != Some(&expected) {
                return Err(self.invalid(&format!("in literal {word} (expecting '{}')", char::from(expected))));
            }
            self.position += 1;
        }
        Ok(())
    }

    pub fn number(&mut self) -> Result<&'a str, String> {
        let start = self.position;
        self.position += usize::from(self.bytes.get(self.position) == Some(&b'-'));
        if self.bytes.get(self.position) == Some(&b'0') {
            self.position += 1;
        } else {
            self.digits("in numeric literal")?;
        }
        if self.bytes.get(self.position) == Some(&b'.') {
            self.position += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.position) {
            self.position += 1;
            if let Some(b'+' | b'-') = self.bytes.get(self.position) {
                self.position += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        Ok(std::str::from_utf8(&self.bytes[start..self.position]).unwrap_or_default())
    }

    fn digits(&mut self, context: &str) -> Result<(), String> {
        let start = self.position;
        while self.bytes.get(self.position).is_some_and(u8::is_ascii_digit) {
            self.position += 1;
        }
        if self.position == start { Err(self.invalid(context)) } else { Ok(()) }
    }

    /// Reads a string, the opening quote included.
    pub fn string(&mut self) -> Result<Cow<'a, str>, String> {
        self.position += 1;
        let start = self.position;
        loop {
            match self.bytes.get(self.position) {
                Some(b'"') => break,
                Some(b'\\') => return self.escaped(start).map(Cow::Owned),
                Some(byte) if *byte >= 0x20 => self.position += 1,
                _ => return Err(self.invalid("in string literal")),
            }
        }
        let text = String::from_utf8_lossy(&self.bytes[start..self.position]);
        self.position += 1;
        Ok(text)
    }

    fn escaped(&mut self, start: usize) -> Result<String, String> {
        let mut out = self.bytes[start..self.position].to_vec();
        loop {
            match self.bytes.get(self.position) {
                Some(b'"') => {
                    self.position += 1;
                    return Ok(String::from_utf8(out)
                        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()));
                }
                Some(b'\\') => {
                    self.position += 1;
                    let c = self.escape_code()?;
                    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                Some(byte) if *byte >= 0x20 => {
                    out.push(*byte);
                    self.position += 1;
                }
                _ => return Err(self.invalid("in string literal")),
            }
        }
    }

    fn escape_code(&mut self) -> Result<char, String> {
        let simple = match self.bytes.get(self.position) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\x08',
            Some(b'f') => '\x0c',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => return Err(self.invalid("in string escape code")),
        };
        self.position += 1;
        Ok(simple)
    }

    fn unicode(&mut self) -> Result<char, String> {
        let first = self.hex4()?;
        let high = (0xD800..0xDC00).contains(&first);
        if high && self.bytes.get(self.position) == Some(&b'\\') && self.bytes.get(self.position + 1) == Some(&b'u') {
            let back = self.position;
            self.position += 1;
            let second = self.hex4()?;
            if (0xDC00..0xE000).contains(&second) {
                let code = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.position = back;
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    /// Reads `uXXXX`.
    fn hex4(&mut self) -> Result<u32, String> {
        self.position += 1;
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.bytes.get(self.position).and_then(|byte| char::from(*byte).to_digit(16));
            code = code * 16 + digit.ok_or_else(|| self.invalid("in \\u hexadecimal character escape"))?;
            self.position += 1;
        }
        Ok(code)
    }
}
