//! ELF files made by hand.

/// Where the code of an [`Image`] is, as the file counts, and in the file.
pub(super) const TEXT: u64 = 0x40_1000;
pub(super) const TEXT_OFFSET: u64 = 0x1000;

/// CFA at rsp + 8, return address at the CFA less 8: as every function begins.
pub(super) const USUAL: &[u8] = &[0x0c, 7, 8, 0x90, 1];

/// The content of an `.eh_frame`.
#[derive(Default)]
pub(super) struct Entries(pub(super) Vec<u8>);

impl Entries {
    fn entry(&mut self, body: &[u8]) {
        let padded = body.len().next_multiple_of(8) + 4;
        self.0.extend((padded as u32).to_le_bytes());
        self.0.extend(body);
        self.0.resize(self.0.len() + padded - body.len(), 0);
    }

    /// Adds a CIE with absolute addresses of 8 bytes, and returns where it is.
    pub(super) fn cie(&mut self, augmentation: &str, instructions: &[u8]) -> usize {
        let at = self.0.len();
        let mut body = vec![0, 0, 0, 0, 1];
        body.extend(augmentation.as_bytes());
        // Code by 1, data by -8, the return address in register 16.
        body.extend([0, 1, 0x78, 16]);
        if augmentation.starts_with('z') {
            body.push(0);
        }
        body.extend(instructions);
        self.entry(&body);
        at
    }

    /// Adds an FDE to a CIE without `z`.
    pub(super) fn fde(&mut self, cie: usize, begin: u64, len: u64, instructions: &[u8]) {
        self.fde_with(cie, begin, len, &[], instructions);
    }

    /// Adds an FDE to a CIE with `z`.
    pub(super) fn fde_z(&mut self, cie: usize, begin: u64, len: u64, instructions: &[u8]) {
        self.fde_with(cie, begin, len, &[0], instructions);
    }

    fn fde_with(&mut self, cie: usize, begin: u64, len: u64, data: &[u8], instructions: &[u8]) {
        let mut body = ((self.0.len() + 4 - cie) as u32).to_le_bytes().to_vec();
        body.extend(begin.to_le_bytes());
        body.extend(len.to_le_bytes());
        body.extend(data);
        body.extend(instructions);
        self.entry(&body);
    }
}

/// An ELF file.
pub(super) struct Image {
    pub(super) machine: u16,
    pub(super) class: u8,
    pub(super) text: Vec<u8>,
    pub(super) text_address: u64,
    pub(super) eh_frame: Vec<u8>,
    /// How many bytes of the code are a procedure linkage table: the first ones.
    pub(super) linkage: usize,
    /// Whether it has section headers.
    pub(super) sections: bool,
    /// Whether it has an `.eh_frame_hdr`.
    pub(super) hdr: bool,
}

impl Image {
    /// One page of code that is not padding.
    pub(super) fn new(entries: Entries) -> Self {
        Self {
            machine: 62,
            class: 2,
            text: vec![0xc3; 0x1000],
            text_address: TEXT,
            eh_frame: entries.0,
            linkage: 0,
            sections: true,
            hdr: false,
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let (text_at, text_size) = (TEXT_OFFSET as usize, self.text.len());
        let hdr_at = (text_at + text_size).next_multiple_of(0x1000);
        let frame_at = hdr_at + 32;
        let frame_end = frame_at + self.eh_frame.len();
        let names = b"\0.shstrtab\0.eh_frame\0.plt\0";
        let names_at = frame_end;
        let sections_at = (names_at + names.len()).next_multiple_of(8);
        let address = |offset: usize| 0x40_0000 + offset as u64;

        let mut out = vec![0x7f, b'E', b'L', b'F', self.class, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let half = |out: &mut Vec<u8>, value: u16| out.extend(value.to_le_bytes());
        let word = |out: &mut Vec<u8>, value: u32| out.extend(value.to_le_bytes());
        let long = |out: &mut Vec<u8>, value: u64| out.extend(value.to_le_bytes());
        half(&mut out, 3);
        half(&mut out, self.machine);
        word(&mut out, 1);
        long(&mut out, 0);
        long(&mut out, 64);
        long(&mut out, if self.sections { sections_at as u64 } else { 0 });
        word(&mut out, 0);
        let numbers = if self.sections { [64, 56, 3, 64, 4, 1] } else { [64, 56, 3, 0, 0, 0] };
        for number in numbers {
            half(&mut out, number);
        }
        let mut segment = |kind: u32, flags: u32, at: usize, address: u64, size: usize| {
            word(&mut out, kind);
            word(&mut out, flags);
            for value in [at as u64, address, address, size as u64, size as u64, 0x1000] {
                long(&mut out, value);
            }
        };
        segment(1, 5, text_at, self.text_address, text_size);
        segment(1, 4, hdr_at, address(hdr_at), frame_end - hdr_at);
        let kind = if self.hdr { 0x6474_e550 } else { 0 };
        segment(kind, 4, hdr_at, address(hdr_at), 32);

        out.resize(text_at, 0);
        out.extend(&self.text);
        out.resize(hdr_at, 0);
        // Version 1; the pointer relative to itself in 4 bytes; no table.
        out.extend([1, 0x1b, 0xff, 0xff]);
        word(&mut out, (frame_at - hdr_at - 4) as u32);
        out.resize(frame_at, 0);
        out.extend(&self.eh_frame);
        out.extend(names);
        if self.sections {
            out.resize(sections_at, 0);
            let mut section = |name: u32, kind: u32, address: u64, at: usize, size: usize| {
                word(&mut out, name);
                word(&mut out, kind);
                for value in [0, address, at as u64, size as u64, 0, 1, 0] {
                    long(&mut out, value);
                }
            };
            section(0, 0, 0, 0, 0);
            section(1, 3, 0, names_at, names.len());
            section(11, 1, address(frame_at), frame_at, self.eh_frame.len());
            section(21, 1, self.text_address, text_at, self.linkage);
        }
        out
    }
}
