//! The words of a line.

use std::str::FromStr;

/// A line, read word by word. Words end at spaces; `[`, `]`, `,` stand alone.
pub struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    /// The words of `line`.
    pub fn new(line: &'a str) -> Self {
        Self { rest: line.trim() }
    }

    fn split(&self) -> Option<(&'a str, &'a str)> {
        let first = self.rest.chars().next()?;
        let stop = |c: char| c.is_whitespace() || matches!(c, '[' | ']' | ',');
        let end = if stop(first) { first.len_utf8() } else { self.rest.find(stop).unwrap_or(self.rest.len()) };
        Some(self.rest.split_at(end))
    }

    /// The next word, which stays.
    pub fn peek(&self) -> Option<&'a str> {
        self.split().map(|(word, _)| word)
    }

    /// The next word.
    pub fn word(&mut self) -> Result<String, String> {
        let (word, rest) = self.split().ok_or("more, found the end of the line")?;
        self.rest = rest.trim_start();
        Ok(word.into())
    }

    /// Takes the next word if it is `word`.
    pub fn eat(&mut self, word: &str) -> bool {
        let found = self.peek() == Some(word);
        if let (true, Some((_, rest))) = (found, self.split()) {
            self.rest = rest.trim_start();
        }
        found
    }

    /// The next word, which must be `word`.
    pub fn keyword(&mut self, word: &str) -> Result<(), String> {
        if self.eat(word) {
            Ok(())
        } else {
            Err(format!("{word}, found {}", self.peek().unwrap_or("the end of the line")))
        }
    }

    /// The next word as a number, or whatever else reads from one word.
    pub fn number<T: FromStr>(&mut self) -> Result<T, String> {
        let word = self.word()?;
        word.parse().map_err(|_| format!("a number or type, found {word}"))
    }

    /// The next word as 32 bits in hexadecimal digits.
    pub fn bits(&mut self) -> Result<u32, String> {
        let word = self.word()?;
        let bits = word.strip_prefix("0x").and_then(|digits| u32::from_str_radix(digits, 16).ok());
        bits.ok_or_else(|| format!("32 bits, found {word}"))
    }

    /// The next word as 64 bits in hexadecimal digits.
    pub fn wide_bits(&mut self) -> Result<u64, String> {
        let word = self.word()?;
        let bits = word.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
        bits.ok_or_else(|| format!("64 bits, found {word}"))
    }

    /// `[1, 2]`
    pub fn list<T: FromStr>(&mut self) -> Result<Vec<T>, String> {
        self.keyword("[")?;
        let mut items = Vec::new();
        while !self.eat("]") {
            if !items.is_empty() {
                self.keyword(",")?;
            }
            items.push(self.number()?);
        }
        Ok(items)
    }

    /// The next string in quotes, if one is next.
    pub fn quoted(&mut self) -> Result<Option<String>, String> {
        let Some(text) = self.rest.strip_prefix('"') else { return Ok(None) };
        let (mut out, mut chars) = (String::new(), text.char_indices());
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = text[at + 1..].trim_start();
                    return Ok(Some(out));
                }
                '\\' => match chars.next() {
                    Some((_, c @ ('"' | '\\'))) => out.push(c),
                    Some((_, 'u')) => {
                        let digits = chars.by_ref().map(|(_, c)| c).skip_while(|c| *c == '{').take_while(|c| *c != '}');
                        let code = u32::from_str_radix(&digits.collect::<String>(), 16).ok().and_then(char::from_u32);
                        out.push(code.ok_or("a code point")?);
                    }
                    _ => return Err("an escape: \\\", \\\\ or \\u{…}".into()),
                },
                c => out.push(c),
            }
        }
        Err("a closing quote".into())
    }

    /// Nothing may be left.
    pub fn end(&self) -> Result<(), String> {
        if self.rest.is_empty() { Ok(()) } else { Err(format!("the end of the line, found {}", self.rest)) }
    }

    /// What is left of the line.
    pub fn rest(&self) -> &'a str {
        self.rest
    }
}
