//! Splits the text form into tokens. Comments vanish, except `; from "a", "b"`, which names origins.

use super::nodes::Part;
use crate::error::{Error, Result};

/// A token of the text form.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Token {
    /// A bare word or number: letters, digits and `_ . / + -`.
    Word(String),
    /// A string in quotes.
    Quoted(String),
    /// `%name`.
    Value(String),
    /// `@name`.
    Symbol(String),
    /// Any other character.
    Punct(char),
    /// The names of a `; from` comment.
    Origins(Vec<String>, Vec<Part>),
    /// After the last token.
    End,
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Word(word) => f.write_str(word),
            Self::Quoted(text) => write!(f, "{text:?}"),
            Self::Value(name) => write!(f, "%{name}"),
            Self::Symbol(name) => write!(f, "@{name}"),
            Self::Punct(c) => write!(f, "`{c}`"),
            Self::Origins(..) => f.write_str("an origin comment"),
            Self::End => f.write_str("the end of the text"),
        }
    }
}

/// The tokens of `text`, each with its one-based line.
pub(super) fn tokens(text: &str) -> Result<Vec<(Token, usize)>> {
    let mut out = Vec::new();
    for (i, line) in text.lines().enumerate() {
        Line { rest: line, number: i + 1 }.read(&mut out)?;
    }
    out.push((Token::End, text.lines().count().max(1)));
    Ok(out)
}

struct Line<'a> {
    rest: &'a str,
    number: usize,
}

impl Line<'_> {
    fn read(mut self, out: &mut Vec<(Token, usize)>) -> Result<()> {
        loop {
            self.rest = self.rest.trim_start();
            let Some(c) = self.rest.chars().next() else { return Ok(()) };
            let token = match c {
                ';' => {
                    if let Some((origins, parts)) = self.origins()? {
                        out.push((Token::Origins(origins, parts), self.number));
                    }
                    return Ok(());
                }
                '"' => Token::Quoted(self.quoted()?),
                '%' => Token::Value(self.sigil()?),
                '@' => Token::Symbol(self.sigil()?),
                c if is_word(c) => Token::Word(self.word()),
                c => {
                    self.rest = &self.rest[c.len_utf8()..];
                    Token::Punct(c)
                }
            };
            out.push((token, self.number));
        }
    }

    fn word(&mut self) -> String {
        let end = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word.into()
    }

    fn sigil(&mut self) -> Result<String> {
        self.rest = &self.rest[1..];
        if self.rest.starts_with('"') {
            return self.quoted();
        }
        let word = self.word();
        if word.is_empty() { Err(self.error("a name")) } else { Ok(word) }
    }

    /// A string whose opening quote is next.
    fn quoted(&mut self) -> Result<String> {
        let mut out = String::new();
        let mut chars = self.rest[1..].char_indices();
        while let Some((i, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[i + 2..];
                    return Ok(out);
                }
                '\\' => match chars.next() {
                    Some((_, c @ ('"' | '\\'))) => out.push(c),
                    Some((_, 'u')) => {
                        let digits: String = chars
                            .by_ref()
                            .map(|(_, c)| c)
                            .skip_while(|c| *c == '{')
                            .take_while(|c| *c != '}')
                            .collect();
                        let c = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                        out.push(c.ok_or_else(|| self.error("a code point"))?);
                    }
                    _ => return Err(self.error("an escape: \\\", \\\\ or \\u{…}")),
                },
                c => out.push(c),
            }
        }
        Err(self.error("a closing quote"))
    }

    /// The names of a `; from "a", "b"; part "a"` comment; `None` if the comment is of another kind.
    fn origins(&mut self) -> Result<Option<(Vec<String>, Vec<Part>)>> {
        let Some(rest) = self.rest[1..].trim_start().strip_prefix("from ") else { return Ok(None) };
        self.rest = rest.trim_start();
        if !self.rest.starts_with('"') {
            return Ok(None);
        }
        let (origins, mut parts) = (self.names()?, Vec::new());
        while let Some(rest) = self.rest.trim_start().strip_prefix(';') {
            self.rest = rest.trim_start();
            let part = self.word();
            self.rest = self.rest.trim_start();
            if part.is_empty() || !self.rest.starts_with('"') {
                return Err(self.error("a part and its names in quotes"));
            }
            parts.push((part, self.names()?));
        }
        Ok(Some((origins, parts)))
    }

    /// Names in quotes, the first of which is next.
    fn names(&mut self) -> Result<Vec<String>> {
        let mut out = vec![self.quoted()?];
        while let Some(rest) = self.rest.trim_start().strip_prefix(',') {
            self.rest = rest.trim_start();
            if !self.rest.starts_with('"') {
                return Err(self.error("a name in quotes"));
            }
            out.push(self.quoted()?);
        }
        Ok(out)
    }

    fn error(&self, expected: &str) -> Error {
        let found: String = self.rest.chars().take(20).collect();
        let found = if found.is_empty() { "the end of the line".into() } else { found };
        Error::Parse { line: self.number, expected: expected.into(), found }
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-' | '+')
}
