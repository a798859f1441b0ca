//! Tables, as aligned text and as Markdown.

/// First column to the left, others to the right.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
    /// Columns that hold words.
    pub(crate) left: Vec<usize>,
}

impl Table {
    pub(crate) fn new<S: Into<String>>(head: impl IntoIterator<Item = S>) -> Table {
        let head = head.into_iter().map(Into::into).collect();
        Table { head, rows: Vec::new(), left: vec![0] }
    }

    pub(crate) fn push(&mut self, row: Vec<String>) {
        assert_eq!(row.len(), self.head.len(), "a cell for each column: {row:?}");
        self.rows.push(row);
    }

    /// Without the columns in which nobody has written anything.
    pub(crate) fn without_empty_columns(self) -> Table {
        let full: Vec<usize> = (0..self.head.len())
            .filter(|&column| {
                self.rows.iter().any(|row| !row[column].is_empty() && row[column] != "-")
            })
            .collect();
        let keep = |row: &Vec<String>| full.iter().map(|&at| row[at].clone()).collect();
        Table {
            head: keep(&self.head),
            rows: self.rows.iter().map(keep).collect(),
            left: (0..full.len()).filter(|&at| self.left.contains(&full[at])).collect(),
        }
    }

    /// Columns stand below each other; no line ends in blanks.
    pub(crate) fn plain(&self) -> String {
        let width = |at: usize| {
            let cells = self.rows.iter().map(|row| &row[at]).chain([&self.head[at]]);
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let rule: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
        let mut text = String::new();
        for row in [&self.head, &rule].into_iter().chain(&self.rows) {
            let mut line = String::new();
            for (at, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                let blanks = " ".repeat(width - cell.chars().count());
                line += if at == 0 { "" } else { "  " };
                line +=
                    &if self.left.contains(&at) { cell.clone() + &blanks } else { blanks + cell };
            }
            text += line.trim_end();
            text += "\n";
        }
        text
    }

    pub(crate) fn markdown(&self) -> String {
        let line = |cells: &[String]| {
            let escaped: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |\n", escaped.join(" | "))
        };
        let rule =
            (0..self.head.len()).map(|at| if self.left.contains(&at) { "---|" } else { "--:|" });
        let mut text = line(&self.head) + "|" + &rule.collect::<String>() + "\n";
        text.extend(self.rows.iter().map(|row| line(row)));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["what", "ns", "none"]);
        table.push(vec!["µ".to_owned(), "1,000".to_owned(), "-".to_owned()]);
        table.push(vec!["switch|2".to_owned(), "7".to_owned(), String::new()]);
        table.without_empty_columns()
    }

    #[test]
    fn plain_text_is_aligned_by_characters() {
        assert_eq!(
            table().plain(),
            "what         ns\n--------  -----\nµ         1,000\nswitch|2      7\n"
        );
    }

    #[test]
    fn markdown_escapes_bars() {
        assert_eq!(
            table().markdown(),
            "| what | ns |\n|---|--:|\n| µ | 1,000 |\n| switch\\|2 | 7 |\n"
        );
    }
}
