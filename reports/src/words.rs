//! Small helps for text that is printed.
//!
//! It owns digits, columns and the escaping of Markdown. It refuses nothing.

/// Stands for what is unknown or does not apply.
pub(crate) const NOTHING: &str = "–";

/// Four significant digits without needless zeros: `0.01433`, `52.31`, `8119`.
pub(crate) fn digits(number: f64) -> String {
    if number == 0.0 || !number.is_finite() {
        return format!("{number}");
    }
    let magnitude = number.abs().log10().floor();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 12")]
    let decimals = (3.0 - magnitude).clamp(0.0, 12.0) as usize;
    let text = format!("{number:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Without line breaks and control characters, which a terminal would obey.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Text that a Markdown table shows as it is: no cell ends in it, no tag, link or emphasis begins.
pub(crate) fn markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in one_line(text).chars() {
        match c {
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' | '#' | '@' => escaped.extend(['\\', c]),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Columns aligned by width; those in `left` to the left, the others to the right.
pub(crate) fn aligned<const N: usize>(headings: &[&str; N], rows: &[[String; N]], left: &[usize]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| one_line(&row[column]).chars().count());
        cells.chain([headings[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |cells: [String; N]| {
        let padded: Vec<String> = (0..N)
            .map(|column| {
                let (cell, width) = (&cells[column], widths[column]);
                if left.contains(&column) { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            })
            .collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut text = line(headings.map(str::to_owned));
    rows.iter().for_each(|row| text.push_str(&line(row.each_ref().map(|cell| one_line(cell)))));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_four_digits() {
        for (number, text) in [
            (0.014_331, "0.01433"),
            (52.309, "52.31"),
            (8118.7, "8119"),
            (0.0, "0"),
            (1_234_567.0, "1234567"),
            (2.5, "2.5"),
        ] {
            assert_eq!(digits(number), text);
        }
    }

    #[test]
    fn markdown_shows_what_it_is_given() {
        assert_eq!(markdown("a|b\n<b>*"), "a\\|b &lt;b&gt;\\*");
    }

    #[test]
    fn columns_align() {
        let rows = [["a".to_owned(), "1".to_owned()], ["long".to_owned(), "10".to_owned()]];
        assert_eq!(aligned(&["x", "y"], &rows, &[0]), "x      y\na      1\nlong  10\n");
    }
}
