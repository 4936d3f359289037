//! Templates in binary XML: the shape of an event, with places for its values.
//!
//! Shape, order and types of the places are those of files that Windows 10 wrote.

use crate::event::{Data, Event, Guid, Provider, Value};

/// Value types of binary XML (\[MS-EVEN6\] 2.2.12, `ValueType`).
pub(crate) mod kind {
    pub(crate) const NULL: u8 = 0x00;
    pub(crate) const TEXT: u8 = 0x01;
    pub(crate) const U8: u8 = 0x04;
    pub(crate) const U16: u8 = 0x06;
    pub(crate) const U32: u8 = 0x08;
    pub(crate) const U64: u8 = 0x0a;
    pub(crate) const BOOL: u8 = 0x0d;
    pub(crate) const BINARY: u8 = 0x0e;
    pub(crate) const GUID: u8 = 0x0f;
    pub(crate) const TIME: u8 = 0x11;
    pub(crate) const SID: u8 = 0x13;
    pub(crate) const HEX64: u8 = 0x15;
    pub(crate) const XML: u8 = 0x21;
    pub(crate) const TEXTS: u8 = 0x81;
}

/// No value decides whether an element is there.
pub(crate) const ALWAYS: u16 = 0xffff;

/// S-1-5-18.
const LOCAL_SYSTEM: [u8; 12] = [1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0];

/// What stands in an element or an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    /// Fixed text.
    Text(String),
    /// The value with this number; `optional`: nothing is left of it when there is none.
    Place { number: u16, kind: u8, optional: bool },
    /// An element.
    Element(Element),
}

/// An element of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) name: &'static str,
    /// The value without which it is left out, or [`ALWAYS`].
    pub(crate) needs: u16,
    pub(crate) attributes: Vec<(&'static str, Node)>,
    pub(crate) content: Vec<Node>,
}

/// A value for a place: its type and its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filling {
    pub(crate) kind: u8,
    pub(crate) bytes: Vec<u8>,
}

impl Filling {
    pub(crate) fn new(kind: u8, bytes: impl Into<Vec<u8>>) -> Filling {
        Filling { kind, bytes: bytes.into() }
    }

    fn none() -> Filling {
        Filling::new(kind::NULL, [])
    }

    fn of(value: &Value) -> Filling {
        match value {
            Value::Text(text) => Filling::new(kind::TEXT, utf16(text)),
            Value::U8(n) => Filling::new(kind::U8, [*n]),
            Value::U16(n) => Filling::new(kind::U16, n.to_le_bytes()),
            Value::U32(n) => Filling::new(kind::U32, n.to_le_bytes()),
            Value::U64(n) => Filling::new(kind::U64, n.to_le_bytes()),
            Value::Hex64(n) => Filling::new(kind::HEX64, n.to_le_bytes()),
            Value::Bool(is) => Filling::new(kind::BOOL, u32::from(*is).to_le_bytes()),
            Value::Time(time) => Filling::new(kind::TIME, time.0.to_le_bytes()),
            Value::Binary(bytes) => Filling::new(kind::BINARY, bytes.clone()),
        }
    }
}

/// A template and what fills it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filled {
    pub(crate) root: Element,
    pub(crate) values: Vec<Filling>,
}

impl Filled {
    /// Identifies the template within a chunk. Windows takes a GUID of the provider's making; here it comes from the
    /// content, so that the same shape has the same one.
    pub(crate) fn id(&self) -> Guid {
        let text = format!("{:?}", self.root);
        let part = |salt: &str| crc32fast::hash(format!("{salt}{text}").as_bytes()).to_le_bytes();
        let ([a, b, c, d], [e, f, g, h]) = (part("1"), part("2"));
        let ([i, j, k, l], [m, n, o, p]) = (part("3"), part("4"));
        Guid(
            u32::from_le_bytes([a, b, c, d]),
            u16::from_le_bytes([e, f]),
            u16::from_le_bytes([g, h]),
            [i, j, k, l, m, n, o, p],
        )
    }
}

/// UTF-16 without a final zero; it ends before a zero.
pub(crate) fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().take_while(|unit| *unit != 0).flat_map(u16::to_le_bytes).collect()
}

fn text(text: &str) -> Node {
    Node::Text(text.to_owned())
}

fn place(number: u16, kind: u8) -> Node {
    Node::Place { number, kind, optional: true }
}

fn element(
    name: &'static str,
    needs: u16,
    attributes: Vec<(&'static str, Node)>,
    content: Vec<Node>,
) -> Element {
    Element { name, needs, attributes, content }
}

/// The outer template of an event; the value with the highest number takes the data, as binary XML.
pub(crate) fn outer(event: &Event, record: u64, data: Vec<u8>) -> Filled {
    let braces = |Guid(a, b, c, [d, e, rest @ ..]): Guid| {
        let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{{{a:08x}-{b:04x}-{c:04x}-{d:02x}{e:02x}-{rest}}}")
    };
    let (provider, last) = match event.provider {
        Provider::Classic(name) => (vec![("Name", text(name))], 19),
        Provider::Manifest { guid, source: Some(source), name } => {
            let named =
                vec![("Name", text(name)), ("Guid", text(&braces(guid))), ("EventSourceName", text(source))];
            (named, 14)
        }
        Provider::Manifest { .. } => {
            (vec![("Name", place(14, kind::TEXT)), ("Guid", place(15, kind::GUID))], 17)
        }
    };
    let simple = |name, number, kind| Node::Element(element(name, number, vec![], vec![place(number, kind)]));
    let id = vec![place(3, kind::U16)];
    let mut system = vec![
        Node::Element(element("Provider", ALWAYS, provider, vec![])),
        Node::Element(element("EventID", 3, vec![("Qualifiers", place(4, kind::U16))], id)),
        simple("Version", 11, kind::U8),
        simple("Level", 0, kind::U8),
        simple("Task", 2, kind::U16),
        simple("Opcode", 1, kind::U8),
        simple("Keywords", 5, kind::HEX64),
        Node::Element(element("TimeCreated", ALWAYS, vec![("SystemTime", place(6, kind::TIME))], vec![])),
        simple("EventRecordID", 10, kind::U64),
        Node::Element(element(
            "Correlation",
            ALWAYS,
            vec![("ActivityID", place(7, kind::GUID)), ("RelatedActivityID", place(13, kind::GUID))],
            vec![],
        )),
        Node::Element(element(
            "Execution",
            ALWAYS,
            vec![("ProcessID", place(8, kind::U32)), ("ThreadID", place(9, kind::U32))],
            vec![],
        )),
        Node::Element(element("Channel", ALWAYS, vec![], vec![text("System")])),
        Node::Element(element("Computer", ALWAYS, vec![], vec![text(&event.computer)])),
        Node::Element(element("Security", ALWAYS, vec![("UserID", place(12, kind::SID))], vec![])),
    ];
    // A classic event has none of these.
    if matches!(event.provider, Provider::Classic(_)) {
        const MANIFEST_ONLY: [&str; 4] = ["Version", "Opcode", "Correlation", "Execution"];
        system.retain(|node| !matches!(node, Node::Element(e) if MANIFEST_ONLY.contains(&e.name)));
    }
    let xmlns = vec![("xmlns", text("http://schemas.microsoft.com/win/2004/08/events/event"))];
    let content = vec![Node::Element(element("System", ALWAYS, vec![], system)), place(last, kind::XML)];
    let (process, thread) = event.process.unwrap_or_default();
    let mut values = vec![
        Filling::new(kind::U8, [event.level]),
        Filling::new(kind::U8, [event.opcode]),
        Filling::new(kind::U16, event.task.to_le_bytes()),
        Filling::new(kind::U16, event.id.to_le_bytes()),
        event.qualifiers.map_or(Filling::none(), |q| Filling::new(kind::U16, q.to_le_bytes())),
        Filling::new(kind::HEX64, event.keywords.to_le_bytes()),
        Filling::new(kind::TIME, event.time.0.to_le_bytes()),
        Filling::none(),
        Filling::new(kind::U32, process.to_le_bytes()),
        Filling::new(kind::U32, thread.to_le_bytes()),
        Filling::new(kind::U64, record.to_le_bytes()),
        event.version.map_or(Filling::none(), |v| Filling::new(kind::U8, [v])),
        if event.by_system { Filling::new(kind::SID, LOCAL_SYSTEM) } else { Filling::none() },
        Filling::none(),
    ];
    if let Provider::Manifest { name, guid, source: None } = event.provider {
        values.push(Filling::new(kind::TEXT, utf16(name)));
        values.push(Filling::new(kind::GUID, guid.bytes()));
    }
    values.resize(usize::from(last), Filling::none());
    values.push(Filling::new(kind::XML, data));
    Filled { root: element("Event", last, xmlns, content), values }
}

/// The template of the data.
pub(crate) fn data(data: &Data) -> Filled {
    match data {
        Data::Named(named) => {
            let values: Vec<Filling> = named.iter().map(|(_, value)| Filling::of(value)).collect();
            let content = (0u16..).zip(named.iter().zip(&values)).map(|(number, ((name, _), filling))| {
                let kind = filling.kind;
                let place = Node::Place { number, kind, optional: false };
                Node::Element(element("Data", ALWAYS, vec![("Name", text(name))], vec![place]))
            });
            Filled { root: element("EventData", ALWAYS, vec![], content.collect()), values }
        }
        Data::Classic { strings, binary } => {
            let texts: Vec<u8> = strings.iter().flat_map(|s| [utf16(s), vec![0, 0]].concat()).collect();
            let texts = if strings.is_empty() { Filling::none() } else { Filling::new(kind::TEXTS, texts) };
            let length = u32::try_from(binary.len()).unwrap_or(u32::MAX);
            let bytes =
                if binary.is_empty() { Filling::none() } else { Filling::new(kind::BINARY, binary.clone()) };
            let content = vec![
                Node::Element(element("Data", 0, vec![], vec![place(0, kind::TEXTS)])),
                Node::Element(element("Binary", 2, vec![], vec![place(2, kind::BINARY)])),
            ];
            Filled {
                root: element("EventData", ALWAYS, vec![], content),
                values: vec![texts, Filling::new(kind::U32, length.to_le_bytes()), bytes],
            }
        }
    }
}
