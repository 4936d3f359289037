//! Programs for a BIOS' 16-bit world, put together by hand: what stands on the tests' discs, and on the disk that one of
//! them fills.

/// Where the firmware puts a boot image or a boot sector.
const ORIGIN: u16 = 0x7c00;

/// Where, on an installer's disc, that begins which it writes to the disk; behind the program and its texts.
const PAYLOAD: usize = 1024;

/// First sector of the partition that it makes.
const PARTITION: u32 = 63;

const SECTOR: usize = 512;

/// A program, and what it points at.
#[derive(Default)]
struct Program {
    code: Vec<u8>,
    /// Places of addresses in the code, and what is to lie at each.
    blocks: Vec<(usize, Vec<u8>)>,
}

impl Program {
    /// Stack and segments, text mode.
    fn begin() -> Program {
        Program::default()
            .then(&[0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xd0, 0xbc, 0x00, 0x7c, 0xfb, 0xfc])
            .then(&[0xb8, 0x03, 0x00, 0xcd, 0x10]) // int 10h: text mode
    }

    fn then(mut self, bytes: &[u8]) -> Program {
        self.code.extend(bytes);
        self
    }

    /// mov si, place of these bytes
    fn point_at(mut self, bytes: Vec<u8>) -> Program {
        self.code.push(0xbe);
        self.blocks.push((self.code.len(), bytes));
        self.then(&[0, 0])
    }

    fn show(self, text: &str) -> Program {
        // lodsb; test al,al; jz +9; mov ah,0eh; mov bx,7; int 10h; jmp back
        self.point_at(zero_ended(text))
            .then(&[0xac, 0x84, 0xc0, 0x74, 0x09, 0xb4, 0x0e, 0xbb, 0x07, 0x00, 0xcd, 0x10, 0xeb, 0xf2])
    }

    /// Over COM1.
    fn tell(self, text: &str) -> Program {
        self.then(&[0x31, 0xd2, 0xb8, 0xe3, 0x00, 0xcd, 0x14]) // int 14h: 9600 8n1
            .point_at(zero_ended(text))
            // lodsb; test al,al; jz +6; mov ah,1; int 14h; jmp back
            .then(&[0xac, 0x84, 0xc0, 0x74, 0x06, 0xb4, 0x01, 0xcd, 0x14, 0xeb, 0xf5])
    }

    fn wait_for_a_key(self) -> Program {
        self.then(&[0xb4, 0x00, 0xcd, 0x16])
    }

    fn wait_a_second(self) -> Program {
        self.then(&[0xb4, 0x86, 0xb9, 0x0f, 0x00, 0xba, 0x40, 0x42, 0xcd, 0x15]) // int 15h
    }

    /// Writes sectors of the payload to the first disk.
    fn write(self, from: usize, sectors: u16, to: u32) -> Program {
        let at = ORIGIN + u16::try_from(PAYLOAD + from * SECTOR).unwrap();
        let mut packet = vec![16, 0];
        packet.extend(sectors.to_le_bytes());
        packet.extend(at.to_le_bytes());
        packet.extend([0, 0]);
        packet.extend(u64::from(to).to_le_bytes());
        self.point_at(packet).then(&[0xb8, 0x00, 0x43, 0xb2, 0x80, 0xcd, 0x13]) // int 13h, extended write
    }

    /// By the keyboard controller.
    fn restart(self) -> Program {
        self.then(&[0xb0, 0xfe, 0xe6, 0x64])
    }

    /// Listens to the ACPI power button as an operating system does, by PM1's registers where SeaBIOS puts them on `pc`.
    fn wait_for_the_button(self) -> Program {
        self.then(&[0xba, 0x02, 0x06, 0xb8, 0x00, 0x01, 0xef]) // PM1_EN: PWRBTN_EN
            .then(&[0xf4, 0xba, 0x00, 0x06, 0xed, 0xf6, 0xc4, 0x01, 0x74, 0xf6]) // PM1_STS, until PWRBTN_STS
    }

    /// S5.
    fn power_off(self) -> Program {
        self.then(&[0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef]) // PM1_CNT: SLP_EN, type 0
    }

    /// The program with what it points at, in `size` bytes; in the end it stands still.
    fn finish(self, size: usize) -> Vec<u8> {
        let mut program = self.then(&[0xf4, 0xeb, 0xfd]); // hlt for ever
        for (place, block) in program.blocks {
            let at = ORIGIN + u16::try_from(program.code.len()).unwrap();
            program.code[place..place + 2].copy_from_slice(&at.to_le_bytes());
            program.code.extend(block);
        }
        assert!(program.code.len() <= size, "{} bytes, not {size}", program.code.len());
        program.code.resize(size, 0);
        program.code
    }
}

fn zero_ended(text: &str) -> Vec<u8> {
    text.bytes().chain([0]).collect()
}

/// Shows `prompt`, waits for a key, shows `after`, writes `marker` to COM1, and stands still. Four sectors.
pub(crate) fn waits_for_a_key(prompt: &str, after: &str, marker: &str) -> Vec<u8> {
    Program::begin()
        .show(prompt)
        .wait_for_a_key()
        .show(&format!("\r\n{after}\r\n"))
        .tell(&format!("{marker}\r\n"))
        .finish(2048)
}

/// What the system does that was put onto the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Installed {
    /// It powers off after a second.
    PowersOff,
    /// It waits for the button.
    Waits,
}

/// Shows `text`, writes a partition table with one FAT partition and the head of a volume, then restarts the machine. What
/// is then on the disk shows `desktop`, and powers off.
pub(crate) fn installs(
    text: &str,
    desktop: &str,
    installed: Installed,
    volume: &[u8],
    volume_sectors: u32,
) -> Vec<u8> {
    assert_eq!(volume.len() % SECTOR, 0);
    let sectors = u16::try_from(volume.len() / SECTOR).unwrap();
    let program = Program::begin().show(text).write(0, 1, 0).write(1, sectors, PARTITION);
    let mut image = program.wait_a_second().restart().finish(PAYLOAD);
    let shown = Program::begin().show(desktop);
    let mut first = match installed {
        Installed::PowersOff => shown.wait_a_second().power_off(),
        Installed::Waits => shown.wait_for_the_button().power_off(),
    }
    .finish(446);
    first.extend([0x80, 0, 0, 0, 0x0c, 0, 0, 0]); // active, FAT32 by LBA
    first.extend(PARTITION.to_le_bytes());
    first.extend(volume_sectors.to_le_bytes());
    first.resize(SECTOR - 2, 0);
    first.extend([0x55, 0xaa]);
    image.extend(first);
    image.extend(volume);
    image.resize(image.len().next_multiple_of(2048), 0);
    image
}
