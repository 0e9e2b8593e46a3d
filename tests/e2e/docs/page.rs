//! A page of Markdown, taken apart: headings, prose with its code spans and links, blocks of code.
//!
//! As much of Markdown as our pages use: `#` headings, `-` and `1.` lists, tables, fenced and indented code, inline links.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use simsiam_tests::root;

use crate::shell::{self, Command};

/// A page, named by its path from the repository's root.
pub struct Page {
    pub name: String,
    /// The anchors of its headings.
    pub anchors: Vec<String>,
    pub blocks: Vec<Block>,
    pub spans: Vec<Piece>,
    /// The targets of its links and pictures.
    pub links: Vec<Piece>,
}

/// A block of code: fenced ones have a language, which may be empty.
pub struct Block {
    pub language: Option<String>,
    pub code: Piece,
}

/// Some text and its first line, from 1.
pub struct Piece {
    pub line: usize,
    pub text: String,
}

/// All pages of the repository, by name.
pub fn pages() -> BTreeMap<String, Page> {
    let mut pages = BTreeMap::new();
    collect(&root(), "", &mut pages);
    pages
}

/// Folders that are not searched: hidden ones and those in `.gitignore`.
pub fn skipped(name: &str) -> bool {
    name.starts_with('.') || ["target", "dist", "runs", "__pycache__"].contains(&name)
}

fn collect(folder: &Path, prefix: &str, pages: &mut BTreeMap<String, Page>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type().unwrap();
        if kind.is_dir() && !skipped(&name) {
            collect(&entry.path(), &format!("{path}/"), pages);
        } else if kind.is_file() && name.ends_with(".md") {
            let text = fs::read_to_string(entry.path()).unwrap();
            pages.insert(path.clone(), Page::parse(&path, &text));
        }
    }
}

impl Page {
    /// Takes the text of a page apart.
    pub fn parse(name: &str, text: &str) -> Self {
        let (headings, blocks, prose) = split(text);
        let (mut spans, mut links) = (Vec::new(), Vec::new());
        for piece in prose {
            let (code, rest) = code_spans(&piece);
            spans.extend(code);
            links.extend(targets(&rest));
        }
        Self { name: name.to_owned(), anchors: anchors(&headings), blocks, spans, links }
    }

    /// Formats a fault at a line.
    pub fn fault(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.name)
    }

    /// The commands of its code spans and of its blocks, but for those in another language than the shell's.
    pub fn commands(&self) -> Vec<Command> {
        let shells = [None, Some(""), Some("sh"), Some("bash"), Some("shell"), Some("console")];
        let blocks = self.blocks.iter().filter(|block| shells.contains(&block.language.as_deref()));
        let mut commands: Vec<_> = blocks.flat_map(|block| shell::commands(&block.code, true)).collect();
        commands.extend(self.spans.iter().flat_map(|span| shell::commands(span, false)));
        commands
    }
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// The width of a list item's marker, such as `- ` or `12. `.
fn marker(bare: &str) -> Option<usize> {
    let digits = bare.len() - bare.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let rest = &bare[digits..];
    let marks = if digits == 0 { ["- ", "* "].as_slice() } else { [". ", ") "].as_slice() };
    marks.iter().any(|mark| rest.starts_with(mark)).then_some(digits + 2)
}

/// The run of backticks or tildes that opens a fenced block.
fn fence(bare: &str) -> Option<&str> {
    let mark = bare.chars().next().filter(|mark| "`~".contains(*mark))?;
    let (fence, language) = bare.split_at(bare.len() - bare.trim_start_matches(mark).len());
    (fence.len() >= 3 && !language.contains('`')).then_some(fence)
}

fn heading(line: &str) -> Option<&str> {
    let rest = line.trim_start_matches('#');
    (1..=6).contains(&(line.len() - rest.len())).then_some(rest)?.strip_prefix(' ')
}

/// Headings, blocks of code, and the prose in paragraphs, list items and rows of tables.
fn split(text: &str) -> (Vec<String>, Vec<Block>, Vec<Piece>) {
    let (mut headings, mut blocks, mut prose) = (Vec::new(), Vec::new(), Vec::<Piece>::new());
    // Where the content of the list item starts, and whether the next line continues the last piece of prose.
    let (mut list, mut open) = (0, false);
    let mut lines = text.lines().zip(1..).peekable();
    while let Some((line, number)) = lines.next() {
        let (bare, indent) = (line.trim(), indentation(line));
        let deep = !open && indent >= list + 4;
        let item = marker(bare).filter(|_| !deep);
        let (body, column) = item.map_or((bare, indent), |width| (bare[width..].trim_start(), indent + width));
        list = match item {
            Some(_) => column,
            None if heading(line).is_some() || !open && !bare.is_empty() && indent < list => 0,
            None => list,
        };
        if bare.is_empty() {
            open = false;
        } else if deep {
            let mut code = vec![&line[list + 4..]];
            let inside = |line: &str| line.trim().is_empty() || indentation(line) >= list + 4;
            while let Some((line, _)) = lines.next_if(|(line, _)| inside(line)) {
                code.push(line.get(list + 4..).unwrap_or(""));
            }
            let text = code.join("\n").trim_end().to_owned();
            blocks.push(Block { language: None, code: Piece { line: number, text } });
        } else if let Some(fence) = fence(body) {
            let mut code = Vec::new();
            while let Some((line, _)) = lines.next().filter(|(line, _)| line.trim() != fence) {
                code.push(&line[column.min(indentation(line))..]);
            }
            let language = Some(body[fence.len()..].trim().to_owned());
            blocks.push(Block { language, code: Piece { line: number + 1, text: code.join("\n") } });
            open = false;
        } else {
            let title = heading(line);
            headings.extend(title.map(str::to_owned));
            let row = bare.starts_with('|');
            let alone = row || title.is_some();
            // A table's cell writes `a | b` as `a \| b`.
            let text = if row { line.replace("\\|", "|") } else { line.to_owned() };
            match prose.last_mut().filter(|_| open && item.is_none() && !alone) {
                Some(piece) => piece.text.extend(["\n", &text]),
                None => prose.push(Piece { line: number, text }),
            }
            open = !alone;
        }
    }
    (headings, blocks, prose)
}

fn line_at(piece: &Piece, offset: usize) -> usize {
    piece.line + piece.text[..offset].matches('\n').count()
}

/// The code spans of a piece of prose, and the prose with blanks in their place.
fn code_spans(piece: &Piece) -> (Vec<Piece>, Piece) {
    let (mut spans, mut rest) = (Vec::new(), String::new());
    let text = piece.text.as_str();
    let mut at = 0;
    while let Some(begin) = text[at..].find('`').map(|offset| at + offset) {
        rest.push_str(&text[at..begin]);
        let ticks = text[begin..].len() - text[begin..].trim_start_matches('`').len();
        let inside = begin + ticks;
        let Some(end) = closing(&text[inside..], ticks).map(|offset| inside + offset) else {
            rest.push_str(&text[begin..inside]);
            at = inside;
            continue;
        };
        let code = text[inside..end].replace('\n', " ");
        spans.push(Piece { line: line_at(piece, begin), text: code.trim().to_owned() });
        at = end + ticks;
        rest.extend(text[begin..at].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
    }
    rest.push_str(&text[at..]);
    (spans, Piece { line: piece.line, text: rest })
}

/// Returns where the next run of exactly `count` backticks starts.
fn closing(text: &str, ticks: usize) -> Option<usize> {
    let mut at = 0;
    while let Some(begin) = text[at..].find('`').map(|offset| at + offset) {
        let run = text[begin..].len() - text[begin..].trim_start_matches('`').len();
        if run == ticks {
            return Some(begin);
        }
        at = begin + run;
    }
    None
}

/// The targets of links and pictures in prose without code spans, and of `[name]: target` lines.
fn targets(prose: &Piece) -> Vec<Piece> {
    let text = prose.text.as_str();
    let inline = text.match_indices("](").filter_map(|(at, mark)| {
        let rest = &text[at + mark.len()..];
        let mut depth = 1;
        let end = rest.find(|c| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth == 0
        })?;
        Some((at, &rest[..end]))
    });
    let named = text.match_indices("]: ").filter(|(at, _)| {
        let line = text[..*at].rsplit('\n').next().unwrap_or("");
        line.starts_with('[') && !line.contains(']')
    });
    let named = named.map(|(at, mark)| (at, text[at + mark.len()..].lines().next().unwrap_or("")));
    let target = |text: &str| text.split_whitespace().next().unwrap_or("").trim_matches(['<', '>']).to_owned();
    inline.chain(named).map(|(at, text)| Piece { line: line_at(prose, at), text: target(text) }).collect()
}

/// Returns the anchors that GitHub assigns to headings: the second one of a name ends with -1, and so on.
pub fn anchors(headings: &[String]) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    for heading in headings {
        let plain = slug(heading);
        let numbered = (1..).map(|number| format!("{plain}-{number}"));
        let free = std::iter::once(plain.clone()).chain(numbered).find(|anchor| !anchors.contains(anchor));
        anchors.extend(free);
    }
    anchors
}

/// A heading in lower case, without punctuation and links' targets, with - for each space.
fn slug(heading: &str) -> String {
    let mut text = heading.trim().trim_end_matches('#').trim_end().to_owned();
    while let Some(begin) = text.find("](") {
        let end = text[begin..].find(')').map_or(text.len(), |offset| begin + offset + 1);
        text.replace_range(begin..end, "");
    }
    let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}
