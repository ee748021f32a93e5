//! Completion for bash, from the help: subcommands, options, and the values of options that have a list of them.
//!
//! What nothing is known of is left to bash, which then offers names of files.

use std::fmt::Write as _;

use crate::help::Page;

/// The file for `/usr/share/bash-completion/completions`.
pub fn of(page: &Page) -> String {
    let name = &page.call;
    let function = format!("_kumod_{}", name.replace('-', "_"));
    let mut calls = Vec::new();
    collect(page, &mut calls);
    let mut out = format!("# bash completion for {name}\n{function}() {{\n");
    out.push_str(
        "    local word call words= current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}\n",
    );
    let _ = writeln!(out, "    call={name}\n    for word in \"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\"; do");
    let below: Vec<String> = calls.iter().skip(1).map(|page| format!("\"{}\"", page.call)).collect();
    if !below.is_empty() {
        let _ = writeln!(
            out,
            "        case \"$call $word\" in {}) call=\"$call $word\" ;; esac",
            below.join(" | ")
        );
    }
    out.push_str("    done\n    case \"$call $previous\" in\n");
    calls.iter().for_each(|page| write_values(page, &mut out));
    out.push_str("    esac\n    if [ -z \"$words\" ]; then\n        case $call in\n");
    for page in &calls {
        let _ = writeln!(out, "        \"{}\") words=\"{}\" ;;", page.call, words(page).join(" "));
    }
    out.push_str(
        "        esac\n    fi\n    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$current\")\n}\n",
    );
    let _ = writeln!(out, "complete -o default -F {function} {name}");
    out
}

fn collect<'a>(page: &'a Page, calls: &mut Vec<&'a Page>) {
    calls.push(page);
    page.subcommands.iter().for_each(|sub| collect(sub, calls));
}

/// Names that the shell needs no quotes for.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let plain = |name: &&str| {
        name.starts_with('-') && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    text.split([' ', ',']).filter(plain)
}

fn words(page: &Page) -> Vec<String> {
    let options = page.options().flat_map(|item| names(&item.name)).map(str::to_owned);
    page.subcommand_names().into_iter().chain(options).collect()
}

/// Values stand in the help as `- name: meaning`.
fn write_values(page: &Page, out: &mut String) {
    for option in page.options() {
        let values = option.text.iter().filter_map(|text| text.strip_prefix("- ")?.split(':').next());
        let values: Vec<&str> = values.map(str::trim).collect();
        if values.is_empty() {
            continue;
        }
        let places: Vec<String> =
            names(&option.name).map(|name| format!("\"{} {name}\"", page.call)).collect();
        let _ = writeln!(out, "        {}) words=\"{}\" ;;", places.join(" | "), values.join(" "));
    }
}
