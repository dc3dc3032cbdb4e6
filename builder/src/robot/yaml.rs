//! YAML as a tree of texts with positions.
//!
//! rcc reads its files with a decoder that keeps the letters of a scalar where text is wanted (`python: 3.10` stays `3.10`),
//! ignores unknown keys and takes the last of equal keys. A typed decoder would lose the letters, so the tree is built from
//! the parser's events. Invariant: depth and number of nodes are bounded before anything is allocated for them, aliases
//! included.

use granit_parser::{Event, Parser, ScalarStyle, Span};

/// Deepest nesting. rcc's files have five levels.
const MAX_DEPTH: usize = 32;
/// Longest text. Files are read up to a lower limit; this one guards the callers that have a text already.
const MAX_BYTES: usize = 4 << 20;
/// Most nodes of a document, counting what aliases stand for.
const MAX_NODES: usize = 50_000;

/// One node and where it begins.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) line: usize,
    pub(crate) column: usize,
    /// Nodes of this tree, itself included.
    size: usize,
    /// Levels of this tree, itself included.
    height: usize,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// Nothing, `~` or `null` without quotes.
    Null,
    /// The letters of a scalar; whether it could be a number or a truth value is told by `plain`.
    Scalar { text: String, plain: bool },
    /// A list.
    Sequence(Vec<Node>),
    /// Pairs in their order, equal keys included, merge keys already expanded.
    Mapping(Vec<(Node, Node)>),
}

/// Why a text is no document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) message: String,
}

impl Node {
    fn new(value: Value, span: &Span) -> Self {
        Self {
            value,
            line: span.start.line(),
            column: span.start.col() + 1,
            size: 1,
            height: 1,
        }
    }

    /// The value of a mapping's key; the last one when it stands there twice.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.pairs()
            .iter()
            .rev()
            .find(|(name, _)| name.text() == Some(key))
            .map(|(_, value)| value)
    }

    /// The pairs of a mapping; none for anything else.
    pub(crate) fn pairs(&self) -> &[(Self, Self)] {
        match &self.value {
            Value::Mapping(pairs) => pairs,
            _ => &[],
        }
    }

    /// The letters of a scalar; null is the empty text, as for rcc.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            Value::Null => Some(""),
            _ => None,
        }
    }

    /// What it is, for a message.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Scalar { .. } => "text",
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
        }
    }
}

/// A collection whose end has not been seen.
struct Open {
    node: Node,
    key: Option<Node>,
    anchor: usize,
}

/// Reads the first document. A leading byte-order mark and carriage returns before line feeds are of no meaning.
pub(crate) fn read(text: &str) -> Result<Node, Problem> {
    if text.len() > MAX_BYTES {
        return Err(Problem {
            line: 1,
            column: 1,
            message: "longer than 4 MiB; no robot needs that".to_owned(),
        });
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(at) = text.find('\0') {
        let line = text[..at].matches('\n').count() + 1;
        return Err(Problem {
            line,
            column: 1,
            message: "a NUL byte is not text; remove it".to_owned(),
        });
    }
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| Problem {
            line: error.marker().line(),
            column: error.marker().col() + 1,
            message: format!("not valid YAML: {}", error.info()),
        })?;
        if let Some(node) = builder.event(event, &span)? {
            return Ok(node);
        }
    }
    Ok(Node {
        value: Value::Null,
        line: 1,
        column: 1,
        size: 1,
        height: 1,
    })
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: Vec<(usize, Node)>,
    nodes: usize,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<Option<Node>, Problem> {
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                let value = if plain && matches!(text.as_ref(), "" | "~" | "null" | "Null" | "NULL") {
                    Value::Null
                } else {
                    Value::Scalar {
                        text: text.into_owned(),
                        plain,
                    }
                };
                self.complete(Node::new(value, span), anchor, span)
            }
            Event::SequenceStart(_, anchor, _) => self.begin(Value::Sequence(Vec::new()), anchor, span),
            Event::MappingStart(_, anchor, _) => self.begin(Value::Mapping(Vec::new()), anchor, span),
            Event::SequenceEnd | Event::MappingEnd => {
                let mut open = self.open.pop().expect("invariant: the parser ends only what it began");
                merge(&mut open.node);
                // Its own node was counted when it began.
                self.nodes -= 1;
                self.complete(open.node, open.anchor, span)
            }
            Event::Alias(id) => {
                let node = self
                    .anchors
                    .iter()
                    .rev()
                    .find(|(anchor, _)| *anchor == id)
                    .map(|(_, node)| node.clone());
                let node = node.ok_or_else(|| problem(span, "an alias inside its own anchor has no value; write the value out"))?;
                self.nodes += node.size - 1;
                self.complete(node, 0, span)
            }
            _ => Ok(None),
        }
    }

    fn begin(&mut self, value: Value, anchor: usize, span: &Span) -> Result<Option<Node>, Problem> {
        self.count(span)?;
        if self.open.len() >= MAX_DEPTH {
            return Err(problem(span, "nested deeper than 32 levels; no robot needs that"));
        }
        self.open.push(Open {
            node: Node::new(value, span),
            key: None,
            anchor,
        });
        Ok(None)
    }

    fn complete(&mut self, node: Node, anchor: usize, span: &Span) -> Result<Option<Node>, Problem> {
        self.count(span)?;
        if self.open.len() + node.height > MAX_DEPTH {
            return Err(problem(span, "nested deeper than 32 levels; no robot needs that"));
        }
        if anchor > 0 {
            // An anchor keeps a copy: it counts as if it stood there twice.
            self.nodes += node.size;
            self.anchors.push((anchor, node.clone()));
        }
        let Some(parent) = self.open.last_mut() else {
            return Ok(Some(node));
        };
        parent.node.size += node.size;
        parent.node.height = parent.node.height.max(node.height + 1);
        match &mut parent.node.value {
            Value::Sequence(items) => items.push(node),
            Value::Mapping(pairs) => match parent.key.take() {
                None => parent.key = Some(node),
                Some(key) => pairs.push((key, node)),
            },
            Value::Null | Value::Scalar { .. } => unreachable!("only collections are open"),
        }
        Ok(None)
    }

    fn count(&mut self, span: &Span) -> Result<(), Problem> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(problem(
                span,
                "more than 50000 values, aliases counted as what they stand for; no robot needs that",
            ));
        }
        Ok(())
    }
}

/// `<<: *other`: the pairs of the other mapping whose keys are not there.
fn merge(node: &mut Node) {
    let Value::Mapping(pairs) = &mut node.value else { return };
    let Some(at) = pairs
        .iter()
        .position(|(key, _)| matches!(&key.value, Value::Scalar { text, plain: true } if text == "<<"))
    else {
        return;
    };
    let (_, source) = pairs.remove(at);
    let sources = match source.value {
        Value::Sequence(items) => items,
        _ => vec![source],
    };
    for (key, value) in sources.iter().flat_map(Node::pairs) {
        if !pairs.iter().any(|(other, _)| other.text().is_some() && other.text() == key.text()) {
            pairs.push((key.clone(), value.clone()));
        }
    }
}

fn problem(span: &Span, message: &str) -> Problem {
    Problem {
        line: span.start.line(),
        column: span.start.col() + 1,
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keeps_letters_and_positions() {
        let node = read("\u{feff}a: 1.10\r\nb:\r\n  - yes\r\n  - ~\r\n  - '~'\r\n").unwrap();
        assert_eq!(node.get("a").unwrap().text(), Some("1.10"));
        let list = node.get("b").unwrap();
        let Value::Sequence(items) = &list.value else { panic!("a list") };
        assert_eq!((items[0].line, items[0].column), (3, 5));
        assert_eq!(items[0].text(), Some("yes"));
        assert!(matches!(items[1].value, Value::Null));
        assert_eq!(items[2].text(), Some("~"));
    }

    #[test]
    fn the_last_of_equal_keys_and_merge_keys() {
        let node = read("x: &x {a: 1, b: 2}\na: 1\na: 2\ny: {<<: *x, b: 3}\n").unwrap();
        assert_eq!(node.get("a").unwrap().text(), Some("2"));
        let merged = node.get("y").unwrap();
        assert_eq!(merged.get("a").unwrap().text(), Some("1"));
        assert_eq!(merged.get("b").unwrap().text(), Some("3"));
    }

    #[test]
    fn hostile_documents_end_early() {
        let mut laughs = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for (name, before) in ["b", "c", "d", "e", "f", "g", "h", "i"]
            .iter()
            .zip(["a", "b", "c", "d", "e", "f", "g", "h"])
        {
            laughs = format!("{laughs}{name}: &{name} [{}]\n", vec![format!("*{before}"); 9].join(","));
        }
        assert!(read(&laughs).unwrap_err().message.contains("more than 50000"));
        assert!(
            read(&format!("{}{}", "[".repeat(100), "]".repeat(100)))
                .unwrap_err()
                .message
                .contains("nested deeper")
        );
        assert!(read(&"- ".repeat(100)).unwrap_err().message.contains("nested deeper"));
        assert!(read("a: &a [*a]").unwrap_err().message.contains("alias"));
        assert!(read(&"a".repeat(100 << 20)).unwrap_err().message.contains("longer than 4 MiB"));
        assert_eq!(read("a: 1\nb: \0\n").unwrap_err().line, 2);
        assert!(read("a: [1, 2\nb: 3").unwrap_err().message.starts_with("not valid YAML"));
        assert!(read("a: *nowhere").is_err());
        assert!(matches!(read("").unwrap().value, Value::Null));
        assert!(read(&"x\n".repeat(60_000)).is_ok());
    }

    proptest! {
        #[test]
        fn any_text_gives_an_answer(text in "[-a:&*\\[\\]{}\"'|>\\n #~!<\\t]{0,200}") {
            match read(&text) {
                Ok(node) => prop_assert!(node.height <= MAX_DEPTH && node.size <= MAX_NODES),
                Err(problem) => prop_assert!(!problem.message.is_empty()),
            }
        }
    }
}
