//! Tokens.

use crate::{ast::Literal, error::Issue};

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    Literal(Literal),
    Ident(String),
    /// Operators and brackets.
    Punct(&'static str),
    End,
}

const PUNCTUATION: [&str; 25] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",", "(", ")", "[", "]",
    "{", "}", "=",
];

/// Tokens with their places, ended by [`Token::End`].
pub(crate) fn tokens(source: &str) -> Result<Vec<(usize, Token)>, Issue> {
    let mut lexer = Lexer { source, at: 0 };
    let mut out = Vec::new();
    loop {
        lexer.skip_blank();
        let at = lexer.at;
        let token = lexer.token()?;
        let end = token == Token::End;
        out.push((at, token));
        if end {
            return Ok(out);
        }
    }
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.source.get(self.at..).unwrap_or_default()
    }

    fn skip_blank(&mut self) {
        loop {
            let rest = self.rest();
            let blank = rest.len() - rest.trim_start().len();
            let comment = if rest[blank..].starts_with("//") {
                rest[blank..].find('\n').unwrap_or(rest.len() - blank)
            } else {
                0
            };
            if blank + comment == 0 {
                return;
            }
            self.at += blank + comment;
        }
    }

    fn issue<T>(&self, text: String) -> Result<T, Issue> {
        Err(Issue { at: self.at, text: format!("Syntax error: {text}") })
    }

    fn token(&mut self) -> Result<Token, Issue> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok(Token::End) };
        if first.is_ascii_digit() || (first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit())) {
            return self.number();
        }
        if let Some(token) = self.string_start() {
            return token;
        }
        if first.is_ascii_alphabetic() || first == '_' {
            return Ok(self.word());
        }
        if first == '`' {
            return self.quoted_ident();
        }
        for punct in PUNCTUATION {
            if rest.starts_with(punct) {
                self.at += punct.len();
                return if punct == "=" {
                    self.at -= 1;
                    let after: String = self.rest().chars().take(2).collect();
                    self.issue(format!("token recognition error at: '{after}'"))
                } else {
                    Ok(Token::Punct(punct))
                };
            }
        }
        self.issue(format!("token recognition error at: '{first}'"))
    }

    fn word(&mut self) -> Token {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let word = rest[..end].to_owned();
        self.at += end;
        match word.as_str() {
            "true" => Token::Literal(Literal::Bool(true)),
            "false" => Token::Literal(Literal::Bool(false)),
            "null" => Token::Literal(Literal::Null),
            "in" => Token::Punct("in"),
            _ => Token::Ident(word),
        }
    }

    fn quoted_ident(&mut self) -> Result<Token, Issue> {
        let rest = &self.rest()[1..];
        let Some(end) = rest.find('`') else { return self.issue("token recognition error at: '`'".to_owned()) };
        let word = rest[..end].to_owned();
        self.at += end + 2;
        Ok(Token::Ident(word))
    }

    fn number(&mut self) -> Result<Token, Issue> {
        let rest = self.rest();
        if let Some(hex) = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X")) {
            let end = hex.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(hex.len());
            let (digits, unsigned) = (hex[..end].to_owned(), hex[end..].starts_with(['u', 'U']));
            self.at += 2 + end + usize::from(unsigned);
            return self.integer(u64::from_str_radix(&digits, 16).ok(), unsigned);
        }
        let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let mut end = digits(rest);
        let mut float = false;
        if rest[end..].starts_with('.') && rest[end + 1..].starts_with(|c: char| c.is_ascii_digit()) {
            float = true;
            end += 1 + digits(&rest[end + 1..]);
        }
        if let Some(exponent) = rest[end..].strip_prefix(['e', 'E']) {
            let sign = usize::from(exponent.starts_with(['+', '-']));
            let length = digits(&exponent[sign..]);
            if length > 0 {
                float = true;
                end += 1 + sign + length;
            }
        }
        let text = rest[..end].to_owned();
        if float {
            self.at += end;
            return match text.parse() {
                Ok(value) => Ok(Token::Literal(Literal::Double(value))),
                Err(_) => self.issue("invalid double literal".to_owned()),
            };
        }
        let unsigned = rest[end..].starts_with(['u', 'U']);
        self.at += end + usize::from(unsigned);
        self.integer(text.parse().ok(), unsigned)
    }

    fn integer(&self, value: Option<u64>, unsigned: bool) -> Result<Token, Issue> {
        match value {
            Some(value) if unsigned => Ok(Token::Literal(Literal::Uint(value))),
            // The least integer is written as minus and a number that is one too large.
            Some(value) if value <= i64::MAX.unsigned_abs() + 1 => {
                Ok(Token::Literal(Literal::Int(i64::try_from(value).unwrap_or(i64::MIN))))
            }
            _ => self.issue("invalid int literal".to_owned()),
        }
    }

    /// A string or bytes literal with its prefix, when one starts here.
    fn string_start(&mut self) -> Option<Result<Token, Issue>> {
        let rest = self.rest();
        let prefix = rest.find(['"', '\''])?;
        let (mut raw, mut bytes) = (false, false);
        if prefix > 2 {
            return None;
        }
        for c in rest[..prefix].chars() {
            match c {
                'r' | 'R' if !raw => raw = true,
                'b' | 'B' if !bytes => bytes = true,
                _ => return None,
            }
        }
        let body = rest[prefix..].to_owned();
        let quote: String = body.chars().take(1).collect();
        let triple = quote.repeat(3);
        let quote = if body.starts_with(&triple) { triple } else { quote };
        let opened = prefix + quote.len();
        Some(self.string(opened, &body[quote.len()..], &quote, raw, bytes))
    }

    fn string(&mut self, opened: usize, body: &str, quote: &str, raw: bool, bytes: bool) -> Result<Token, Issue> {
        let mut out: Vec<u8> = Vec::new();
        let mut position = 0;
        loop {
            let rest = &body[position..];
            let Some(c) = rest.chars().next() else {
                return self.issue(format!("token recognition error at: '{quote}'"));
            };
            if rest.starts_with(quote) {
                break;
            }
            if c == '\n' && quote.len() == 1 {
                return self.issue("token recognition error at: newline in string".to_owned());
            }
            if c == '\\' && !raw {
                let Some(length) = unescape(rest, bytes, &mut out) else {
                    return self.issue("token recognition error at: invalid escape".to_owned());
                };
                position += length;
            } else {
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                position += c.len_utf8();
            }
        }
        self.at += opened + position + quote.len();
        Ok(Token::Literal(if bytes {
            Literal::Bytes(out)
        } else {
            Literal::String(String::from_utf8_lossy(&out).into_owned())
        }))
    }
}

/// Reads one escape; gives its length.
fn unescape(text: &str, bytes: bool, out: &mut Vec<u8>) -> Option<usize> {
    let code = text[1..].chars().next()?;
    let simple = match code {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        '\\' | '\'' | '"' | '`' | '?' => u8::try_from(code).ok()?,
        'x' | 'X' => return number(text, 2, 2, 16, bytes, out),
        'u' => return number(text, 2, 4, 16, false, out),
        'U' => return number(text, 2, 8, 16, false, out),
        '0'..='3' => return number(text, 1, 3, 8, bytes, out),
        _ => return None,
    };
    out.push(simple);
    Some(1 + code.len_utf8())
}

fn number(text: &str, start: usize, length: usize, radix: u32, bytes: bool, out: &mut Vec<u8>) -> Option<usize> {
    let code = u32::from_str_radix(text.get(start..start + length)?, radix).ok()?;
    if bytes {
        out.push(u8::try_from(code).ok()?);
    } else {
        out.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Some(start + length)
}
