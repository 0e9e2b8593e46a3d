//! Splits shell lines into commands and words.

use crate::page::Piece;

/// A command: its words without quotes, and its first line.
pub struct Command {
    pub line: usize,
    pub words: Vec<String>,
    /// From a block, to be copied completely; a code span may name a command without its required arguments.
    pub whole: bool,
}

/// Returns the commands of a block or span: a line that ends with `\` continues; pipes, `;` and `&&` end a command.
pub fn commands(code: &Piece, whole: bool) -> Vec<Command> {
    let mut commands = Vec::new();
    let mut lines = code.text.lines().zip(code.line..);
    while let Some((first, line)) = lines.next() {
        let mut text = first.trim_start().trim_start_matches("$ ").to_owned();
        while let Some(begin) = text.strip_suffix('\\').map(str::to_owned) {
            text = begin + lines.next().map_or("", |(next, _)| next);
        }
        let words = words(&text);
        for words in words.split(|word| ["|", "||", "&", "&&", ";"].contains(&word.as_str())) {
            let words: Vec<_> = words.iter().skip_while(|word| is_assignment(word)).cloned().collect();
            if !words.is_empty() {
                commands.push(Command { line, words, whole });
            }
        }
    }
    commands
}

/// `NAME=value` before a command.
fn is_assignment(word: &str) -> bool {
    let name = word.split_once('=').map_or("", |(name, _)| name);
    !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match quote {
            Some(mark) if mark == c => quote = None,
            Some(_) => word.get_or_insert_default().push(c),
            None if c == '\'' || c == '"' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c == '#' && word.is_none() => break,
            None if c.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Returns whether a word is a placeholder: `…`, `<name>`, `NAME`.
pub fn is_placeholder(word: &str) -> bool {
    let capitals = word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase() || "0123456789_-|".contains(c));
    is_elision(word) || word.contains('…') || (word.contains('<') && word.contains('>')) || capitals
}

/// Any words, or none.
pub fn is_elision(word: &str) -> bool {
    ["…", "..."].contains(&word)
}
