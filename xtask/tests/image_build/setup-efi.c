/* What a UEFI firmware finds on the test's disc: Setup's first screen, in a few lines.
 *
 * It shows the prompt, waits for a key, tells over COM1 whether the firmware offers a TPM 2.0 and enforces Secure Boot,
 * and that Setup runs; then it shuts the machine down. Compiled when the test runs, with the gcc that links the Win32
 * programs: a UEFI program is a PE file of another subsystem, with the same calling convention. PROMPT is defined on the
 * command line. Offsets are those of the UEFI Specification 2.10, chapters 4, 7, 8 and 12. */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef struct { u32 a; u16 b, c; u8 d[8]; } guid;

/* The function at a byte offset of a table. */
#define AT(table, offset, kind) (*(kind *)((u8 *)(table) + (offset)))

typedef u64 (*output_string)(void *console, const u16 *text);
typedef u64 (*read_key)(void *console, void *key);
typedef u64 (*stall)(u64 microseconds);
typedef u64 (*locate_protocol)(const guid *which, void *registration, void **found);
typedef u64 (*get_variable)(const u16 *name, const guid *vendor, u32 *attributes, u64 *size, void *data);
typedef void (*reset_system)(u32 kind, u64 status, u64 size, void *data);

/* Without one absolute address there would be no relocations, and the firmware could not load the program. */
void *volatile anchor = (void *)&anchor;

static void out(u16 port, u8 value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }

static u8 in(u16 port) {
    u8 value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

/* A line on COM1, on a line of its own: the firmware's console may be there as well. */
static void tell(const char *text) {
    const char *parts[] = { "\r\nsoftoff-install: ", text, "\r\n" };
    for (int part = 0; part < 3; part++)
        for (const char *c = parts[part]; *c; c++) {
            while (!(in(0x3f8 + 5) & 0x20)) { }
            out(0x3f8, *c);
        }
}

u64 efi_main(void *image, void *system) {
    static const guid tcg2 = { 0x607f766c, 0x7455, 0x42be, { 0x93, 0x0b, 0xe4, 0xd7, 0x6d, 0xb2, 0x72, 0x0f } };
    static const guid global = { 0x8be4df61, 0x93ca, 0x11d2, { 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c } };
    void *console_in = AT(system, 48, void *), *console_out = AT(system, 64, void *);
    void *runtime = AT(system, 88, void *), *boot = AT(system, 96, void *);
    u8 key[4];
    void *found = 0;
    u8 enforced = 0;
    u64 size = 1;

    (void)image;
    AT(console_out, 8, output_string)(console_out, PROMPT);
    while (AT(console_in, 8, read_key)(console_in, key) != 0)
        AT(boot, 248, stall)(10000);
    AT(console_out, 8, output_string)(console_out, L"\r\nSetup is starting\r\n");
    tell(AT(boot, 320, locate_protocol)(&tcg2, 0, &found) == 0 ? "a-tpm" : "no-tpm");
    AT(runtime, 72, get_variable)(L"SecureBoot", &global, 0, &size, &enforced);
    tell(enforced ? "secure-boot-on" : "secure-boot-off");
    tell("windows-pe");
    /* Time for a picture of the screen. */
    AT(boot, 248, stall)(2000000);
    AT(runtime, 104, reset_system)(2, 0, 0, 0);
    return 0;
}
