//! The answer file as a tree, and the tree as XML.

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use super::component::{Pass, Section};

/// A setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A name and its value.
    Value(&'static str, String),
    /// A name and what is in it.
    Group(&'static str, Vec<Node>),
    /// An entry of a list, numbered where the list's entries have keys (`wcm:keyValue`).
    Item(&'static str, Option<u32>, Vec<Node>),
}

/// A value.
pub(super) fn value(name: &'static str, text: impl ToString) -> Node {
    Node::Value(name, text.to_string())
}

/// A group.
pub(super) fn group(name: &'static str, nodes: Vec<Node>) -> Node {
    Node::Group(name, nodes)
}

/// A list's entry without a key.
pub(super) fn item(name: &'static str, nodes: Vec<Node>) -> Node {
    Node::Item(name, None, nodes)
}

const NAMESPACE: &str = "urn:schemas-microsoft-com:unattend";
const WCM: &str = "http://schemas.microsoft.com/WMIConfig/2002/State";
/// The key of Microsoft's own assemblies.
const TOKEN: &str = "31bf3856ad364e35";

/// Writes the sections, ordered by pass, one `settings` element for each.
pub(super) fn write(sections: &[Section]) -> std::io::Result<String> {
    let mut out = Writer::new_with_indent(Vec::new(), b' ', 2);
    out.write_event(Event::Decl(BytesDecl::new("1.0", Some("utf-8"), None)))?;
    let root = [("xmlns", NAMESPACE), ("xmlns:wcm", WCM)];
    out.create_element("unattend").with_attributes(root).write_inner_content(|out| {
        for pass in [Pass::WindowsPe, Pass::Specialize, Pass::OobeSystem] {
            let of_pass: Vec<&Section> = sections.iter().filter(|section| section.pass == pass).collect();
            if !of_pass.is_empty() {
                out.create_element("settings")
                    .with_attribute(("pass", pass.name()))
                    .write_inner_content(|out| of_pass.iter().try_for_each(|s| write_section(out, s)))?;
            }
        }
        Ok(())
    })?;
    let mut text = String::from_utf8(out.into_inner()).map_err(std::io::Error::other)?;
    text.push('\n');
    Ok(text)
}

fn write_section(out: &mut Writer<Vec<u8>>, section: &Section) -> std::io::Result<()> {
    let attributes = [
        ("name", section.name),
        ("processorArchitecture", "amd64"),
        ("publicKeyToken", TOKEN),
        ("language", "neutral"),
        ("versionScope", "nonSxS"),
    ];
    out.create_element("component")
        .with_attributes(attributes)
        .write_inner_content(|out| section.settings.iter().try_for_each(|node| write_node(out, node)))?;
    Ok(())
}

fn write_node(out: &mut Writer<Vec<u8>>, node: &Node) -> std::io::Result<()> {
    match node {
        Node::Value(name, text) => {
            out.create_element(*name).write_text_content(BytesText::new(text))?;
        }
        Node::Group(name, nodes) => {
            out.create_element(*name)
                .write_inner_content(|out| nodes.iter().try_for_each(|node| write_node(out, node)))?;
        }
        Node::Item(name, key, nodes) => {
            let element = out.create_element(*name).with_attribute(("wcm:action", "add"));
            let element = match key {
                Some(key) => element.with_attribute(("wcm:keyValue", key.to_string().as_str())),
                None => element,
            };
            element.write_inner_content(|out| nodes.iter().try_for_each(|node| write_node(out, node)))?;
        }
    }
    Ok(())
}
