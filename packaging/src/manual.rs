//! The man page of a program, from its help.
//!
//! One page for a program with all of its subcommands. An option that a subcommand shares with the program is told once.

use crate::help::{Item, Page, Section};
use crate::programs::{PROGRAMS, Program};
use crate::roff::{Head, Roff};

/// What the help says of how a program ends begins with this.
const EXIT_CODES: &str = "Exit codes: ";

/// The man page of `program`, whose help is `page`.
pub fn of(program: &Program, page: &Page, head: Head<'_>) -> String {
    let mut roff = Roff::new(head);
    roff.section("Name");
    let about = page.about.first().map_or("", String::as_str);
    roff.raw(&format!("{} \\- {}\n", head.name.replace('-', "\\-"), without_marks(about)));
    roff.section("Synopsis");
    usage(&mut roff, page);
    describe(&mut roff, page);
    options(&mut roff, page);
    if !page.subcommands.is_empty() {
        roff.section("Commands");
        page.subcommands.iter().for_each(|sub| subcommand(&mut roff, page, sub));
    }
    exit_status(&mut roff, page);
    blocks(&mut roff, page);
    roff.raw(program.more);
    see_also(&mut roff, program);
    roff.finish()
}

/// The line of NAME is read by programs that know no fonts.
fn without_marks(text: &str) -> String {
    text.replace('`', "").replace('-', "\\-").trim_end_matches('.').to_owned()
}

fn usage(roff: &mut Roff, page: &Page) {
    for (index, line) in page.usage.iter().enumerate() {
        let rest = line.strip_prefix(&page.call).unwrap_or(line);
        let text = format!("**{}**{rest}", page.call);
        if index == 0 { roff.paragraph(&text) } else { roff.next_line(&text) }
    }
}

/// What the program does, and what its help says below everything, but for the exit codes.
fn describe(roff: &mut Roff, page: &Page) {
    roff.section("Description");
    page.about.iter().for_each(|text| roff.paragraph(&sentence(text)));
    for text in texts(page) {
        let before = text.split(EXIT_CODES).next().unwrap_or_default().trim();
        if !before.is_empty() {
            roff.paragraph(before);
        }
    }
}

fn texts(page: &Page) -> impl Iterator<Item = &str> {
    page.sections.iter().filter_map(|section| match section {
        Section::Text(text) => Some(text.as_str()),
        _ => None,
    })
}

fn options(roff: &mut Roff, page: &Page) {
    let mut is_open = false;
    for section in &page.sections {
        let Section::Items { title, items } = section else { continue };
        if title == "Commands" {
            continue;
        }
        if title == "Arguments" || title == "Options" {
            roff.section(title);
        } else {
            if !is_open && !page.sections.iter().any(|section| is_called(section, "Options")) {
                roff.section("Options");
            }
            roff.part(title);
        }
        is_open = true;
        items.iter().for_each(|item| tell(roff, item));
    }
}

fn is_called(section: &Section, name: &str) -> bool {
    matches!(section, Section::Items { title, .. } if title == name)
}

fn tell(roff: &mut Roff, item: &Item) {
    roff.item(&emphasised(&item.name), item.text.iter().map(String::as_str));
}

/// The names of an option are bold, what it takes is not.
fn emphasised(name: &str) -> String {
    let words = name.split(' ').map(|word| {
        let (bare, comma) = word.strip_suffix(',').map_or((word, ""), |bare| (bare, ","));
        let is_name =
            bare.starts_with('-') || bare.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        if is_name { format!("**{bare}**{comma}") } else { word.to_owned() }
    });
    words.collect::<Vec<_>>().join(" ")
}

fn subcommand(roff: &mut Roff, program: &Page, page: &Page) {
    roff.part(&page.call);
    usage(roff, page);
    page.about.iter().for_each(|text| roff.paragraph(&sentence(text)));
    for section in &page.sections {
        match section {
            Section::Items { title, items } if title != "Commands" => {
                let own = items.iter().filter(|item| program.options().all(|known| known.name != item.name));
                own.for_each(|item| tell(roff, item));
            }
            Section::Items { .. } => {}
            Section::Block { lines, .. } => roff.block(lines.iter().map(String::as_str)),
            Section::Text(text) => roff.paragraph(text),
        }
    }
    page.subcommands.iter().for_each(|sub| subcommand(roff, program, sub));
}

fn exit_status(roff: &mut Roff, page: &Page) {
    let Some(codes) = texts(page).find_map(|text| Some(text.split_once(EXIT_CODES)?.1)) else { return };
    roff.section("Exit status");
    roff.paragraph(codes);
}

fn blocks(roff: &mut Roff, page: &Page) {
    for section in &page.sections {
        if let Section::Block { title, lines } = section {
            roff.section(title);
            roff.block(lines.iter().map(String::as_str));
        }
    }
}

/// Help has no full stop at the end of its first line.
fn sentence(text: &str) -> String {
    if text.ends_with(['.', ':', ';']) { text.to_owned() } else { format!("{text}.") }
}

fn see_also(roff: &mut Roff, program: &Program) {
    roff.section("See also");
    let others = PROGRAMS.iter().filter(|other| other.name != program.name);
    let mut pages: Vec<String> =
        others.map(|other| format!("**{}**({})", other.name, other.section)).collect();
    pages.push("**kumod.lua**(5)".to_owned());
    pages.sort();
    roff.paragraph(&pages.join(", "));
    roff.paragraph("The files in /usr/share/doc/kumod.");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::help::read;

    const HELP: &str = "\
Sends mail

Usage: traffic-gen [OPTIONS]
       traffic-gen <COMMAND>

Commands:
  audit  Compares

Options:
  -q, --quiet  Show no progress

Load:
  -r, --rate <N>  Messages a second [default: `all`]

Examples:
  traffic-gen -q

Counts take k and m.
Exit codes: 0 all sent, 1 failed.
";

    #[test]
    fn a_page_holds_all_that_the_help_says_once() {
        let mut page = read("traffic-gen", HELP).unwrap();
        let audit = "Compares\n\nUsage: traffic-gen audit\n\nOptions:\n      --sink <URL>  Where\n  -q, --quiet  No\n";
        page.subcommands.push(read("traffic-gen audit", audit).unwrap());
        let head = Head { name: "traffic-gen", section: 1, date: "2026-11-22", version: "1" };
        let text = of(&PROGRAMS[2], &page, head);
        let order = [
            ".SH \"NAME\"\ntraffic\\-gen \\- Sends mail\n",
            ".SH \"SYNOPSIS\"\n.PP\n\\fBtraffic\\-gen\\fR [OPTIONS]\n",
            ".SH \"DESCRIPTION\"\n.PP\nSends mail.\n.PP\nCounts take k and m.\n",
            ".SH \"OPTIONS\"\n.TP\n\\fB\\-q\\fR, \\fB\\-\\-quiet\\fR\nShow no progress\n.SS \"Load\"\n",
            "\\fB\\-\\-rate\\fR <N>\nMessages a second [default: \\fBall\\fR]\n",
            ".SH \"COMMANDS\"\n.SS \"traffic\\-gen audit\"\n",
            "\\fB\\-\\-sink\\fR <URL>\nWhere\n.SH \"EXIT STATUS\"\n.PP\n0 all sent, 1 failed.\n",
            ".SH \"EXAMPLES\"\n",
            ".SH \"SEE ALSO\"\n",
        ];
        let mut rest = text.as_str();
        for part in order {
            rest = rest.split_once(part).unwrap_or_else(|| panic!("{part:?} is missing in {rest}")).1;
        }
    }
}
