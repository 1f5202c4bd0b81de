//! A QR code on a terminal: two modules to a character, by half blocks.

use qrcode::render::Renderer;
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

/// Columns that a terminal has at least.
const COLUMNS: usize = 80;
/// Light modules around the code, as its standard has it.
const QUIET: u32 = 4;
/// The same where columns are few.
const NARROW: u32 = 2;

/// The code of a text; none if it is too long for any.
pub(super) fn code(text: &str) -> Option<String> {
    // Nothing covers a part of a terminal: the least correction makes the smallest code.
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    let (width, colors) = (code.width(), code.into_colors());
    let quiet = if width + 2 * QUIET as usize <= COLUMNS { QUIET } else { NARROW };
    Some(Renderer::<Dense1x2>::new(&colors, width, quiet).module_dimensions(1, 1).build() + "\n")
}

/// The same in black on white, whatever the terminal's colours are: not every wallet reads an
/// inverted code.
pub(super) fn colored(code: &str) -> String {
    code.lines().map(|line| format!("\u{1b}[38;5;16;48;5;231m{line}\u{1b}[0m\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a reader of such codes makes of the printed one, four pixels to a module.
    fn read(printed: &str) -> String {
        const PIXELS: usize = 4;
        let rows: Vec<Vec<char>> = printed.lines().map(|line| line.chars().collect()).collect();
        let (columns, side) = (rows[0].len(), rows.len() * 2);
        let dark = |x: usize, y: usize| match rows[y / 2][x] {
            '█' => true,
            '▀' => y.is_multiple_of(2),
            '▄' => !y.is_multiple_of(2),
            _ => false,
        };
        let (width, height) = (columns * PIXELS, side * PIXELS);
        let pixel = |at: usize| if dark(at % width / PIXELS, at / width / PIXELS) { 0 } else { 255 };
        let image: Vec<u8> = (0..width * height).map(pixel).collect();
        let mut reader = quircs::Quirc::default();
        let codes: Vec<_> = reader.identify(width, height, &image).collect();
        assert_eq!(codes.len(), 1, "no code is seen in\n{printed}");
        let code = codes[0].as_ref().expect("it is seen").decode().expect("it is read");
        String::from_utf8(code.payload).expect("a text")
    }

    #[test]
    fn a_printed_code_is_read_as_what_it_stands_for() {
        let address = "bitcoin:bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080?amount=0.00001000";
        let offer = format!(
            "{address}&lno=lno1{}",
            "qgsqvgnwgcg35z6ee2h3yczraddm72xrfua9uve2rlrm9deu7xyfzrc".repeat(6)
        );
        for text in [address, &offer] {
            let printed = code(text).expect("it fits");
            assert_eq!(read(&printed), text);
            let widest = printed.lines().map(|line| line.chars().count()).max();
            assert!(widest.is_some_and(|widest| widest <= COLUMNS), "{widest:?}");
            assert!(printed.starts_with("   "), "a quiet zone");
        }
        assert_eq!(code(&"x".repeat(4000)), None);
    }

    #[test]
    fn on_a_terminal_the_code_is_black_on_white() {
        assert_eq!(colored("█ \n"), "\u{1b}[38;5;16;48;5;231m█ \u{1b}[0m\n");
    }
}
