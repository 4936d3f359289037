# A boot sector that finds out whether hardware virtualisation really works.
#
# Some hosts open /dev/kvm, create virtual machines and run a trivial payload, and yet fail as soon as
# real firmware or a real kernel runs: a virtual CPU stops at its first exception in protected mode.
# This payload does, one after the other, what a boot does, and says on COM1 how far it got: one digit
# for each stage, written when the stage is done.
#
#   1  the BIOS started us in real mode
#   2  the BIOS read the rest of us from disk (int 13h)
#   3  BIOS timer interrupts arrive in real mode
#   4  protected mode
#   5  an exception (int3) in protected mode, and back
#   6  timer interrupts (PIT through the PIC) in protected mode
#   7  long mode, with paging
#   8  an exception (int3) in long mode, and back
#   9  timer interrupts in long mode
#
# Then it writes 0x10 to isa-debug-exit at port 0xf4: QEMU ends with status 0x10 << 1 | 1 = 33.
# Whatever goes wrong stops it; a stop is only seen by the digits that do not come.
#
# Assemble with --defsym STOP_AFTER=n for a payload that stops after stage n, to prove that a stop is seen.

.ifndef STOP_AFTER
.set STOP_AFTER, 0
.endif

.set COM1,       0x3f8
.set LINE_STATUS, COM1 + 5
.set BIOS_TICKS, 0x46c            # counted up 18.2 times a second by the BIOS
.set LOAD_AT,    0x7c00
.set REST,       3                # sectors behind the boot sector
.set MARKER,     0x66666f53
.set IDT32,      0x20000
.set IDT64,      0x21000
.set PML4,       0x30000
.set PDPT,       0x31000
.set PD,         0x32000
.set TIMER_VECTOR, 0x20
.set CODE32,     0x08
.set DATA,       0x10
.set CODE64,     0x18

# Assembles in all three modes. Clobbers ax and dx.
.macro stage number
        mov     $LINE_STATUS, %dx
8:      in      %dx, %al
        test    $0x20, %al        # transmitter empty
        jz      8b
        mov     $COM1, %dx
        mov     $'0' + \number, %al
        out     %al, %dx
.if \number == STOP_AFTER
9:      cli
        hlt
        jmp     9b
.endif
.endm

.code16
.globl boot
boot:   cli
        cld
        ljmp    $0, $real
real:   xor     %ax, %ax
        mov     %ax, %ds
        mov     %ax, %es
        mov     %ax, %ss
        mov     $LOAD_AT, %sp
        mov     %dl, %bl          # the BIOS says which drive we came from
        stage   1

        mov     %bl, %dl
        xor     %dh, %dh          # head 0
        mov     $2, %cx           # cylinder 0, sector 2
        mov     $LOAD_AT + 512, %bx
        mov     $0x0200 + REST, %ax
        int     $0x13
        jc      stop16
        cmpl    $MARKER, marker
        jne     stop16
        stage   2

        mov     $3, %cx
        sti
tick:   mov     BIOS_TICKS, %eax
1:      hlt
        cmp     BIOS_TICKS, %eax
        je      1b
        loop    tick
        cli
        stage   3
        jmp     enter32

stop16: cli
        hlt
        jmp     stop16

.org 510
        .word   0xaa55

enter32:
        lgdt    gdt_pointer
        mov     %cr0, %eax
        or      $1, %al
        mov     %eax, %cr0
        ljmp    $CODE32, $protected

.code32
protected:
        mov     $DATA, %ax
        mov     %ax, %ds
        mov     %ax, %es
        mov     %ax, %ss
        mov     $LOAD_AT, %esp
        stage   4

        # Both interrupt tables and the page tables begin as zeros.
        xor     %eax, %eax
        mov     $IDT32, %edi
        mov     $(PD + 0x1000 - IDT32) / 4, %ecx
        rep stosl

        movl    $CODE32 << 16, IDT32 + 8 * 3
        movw    $trap32, IDT32 + 8 * 3
        movl    $0x8e00, IDT32 + 8 * 3 + 4
        movl    $CODE32 << 16, IDT32 + 8 * TIMER_VECTOR
        movw    $timer32, IDT32 + 8 * TIMER_VECTOR
        movl    $0x8e00, IDT32 + 8 * TIMER_VECTOR + 4
        lidt    idt32_pointer
        int3
        cmpl    $1, traps
        jne     stop32
        stage   5

        call    start_timer
        call    wait_for_timer
        stage   6

        movl    $PDPT | 3, PML4   # present, writable
        movl    $PD | 3, PDPT
        movl    $0x83, PD         # one page of 2 MiB, mapped to itself
        mov     $PML4, %eax
        mov     %eax, %cr3
        mov     %cr4, %eax
        or      $1 << 5, %eax     # PAE
        mov     %eax, %cr4
        mov     $0xc0000080, %ecx # EFER
        rdmsr
        or      $1 << 8, %eax     # LME
        wrmsr
        mov     %cr0, %eax
        or      $1 << 31, %eax    # PG
        mov     %eax, %cr0
        ljmp    $CODE64, $long

stop32: cli
        hlt
        jmp     stop32

# Timer 0 at about 1 kHz to vector 0x20, everything else masked.
start_timer:
        mov     $0x11, %al        # ICW1: edge, cascade, ICW4 follows
        out     %al, $0x20
        out     %al, $0xa0
        mov     $TIMER_VECTOR, %al
        out     %al, $0x21
        mov     $TIMER_VECTOR + 8, %al
        out     %al, $0xa1
        mov     $4, %al           # the second PIC is on line 2
        out     %al, $0x21
        mov     $2, %al
        out     %al, $0xa1
        mov     $1, %al           # 8086 mode
        out     %al, $0x21
        out     %al, $0xa1
        mov     $0xfe, %al
        out     %al, $0x21
        mov     $0xff, %al
        out     %al, $0xa1
        mov     $0x34, %al        # channel 0, both bytes, rate generator
        out     %al, $0x43
        mov     $1193 & 0xff, %al
        out     %al, $0x40
        mov     $1193 >> 8, %al
        out     %al, $0x40
        ret

wait_for_timer:
        movl    $0, ticks
        sti
1:      hlt
        cmpl    $5, ticks
        jb      1b
        cli
        ret

trap32: incl    traps
        iret
timer32:
        push    %eax
        incl    ticks
        mov     $0x20, %al        # end of interrupt
        out     %al, $0x20
        pop     %eax
        iret

.code64
long:   mov     $DATA, %ax
        mov     %ax, %ss
        mov     $LOAD_AT, %rsp
        stage   7

        movl    $CODE64 << 16, IDT64 + 16 * 3
        movw    $trap64, IDT64 + 16 * 3
        movl    $0x8e00, IDT64 + 16 * 3 + 4
        movl    $CODE64 << 16, IDT64 + 16 * TIMER_VECTOR
        movw    $timer64, IDT64 + 16 * TIMER_VECTOR
        movl    $0x8e00, IDT64 + 16 * TIMER_VECTOR + 4
        lidt    idt64_pointer
        int3
        cmpl    $2, traps
        jne     stop64
        stage   8

        movl    $0, ticks
        sti
1:      hlt
        cmpl    $5, ticks
        jb      1b
        cli
        stage   9

        mov     $0x10, %al
        out     %al, $0xf4
stop64: cli
        hlt
        jmp     stop64

trap64: incl    traps
        iretq
timer64:
        push    %rax
        incl    ticks
        mov     $0x20, %al
        out     %al, $0x20
        pop     %rax
        iretq

.balign 8
gdt:    .quad   0
        .quad   0x00cf9a000000ffff # 32-bit code
        .quad   0x00cf92000000ffff # data
        .quad   0x00af9a000000ffff # 64-bit code
gdt_pointer:
        .word   . - gdt - 1
        .long   gdt
idt32_pointer:
        .word   8 * (TIMER_VECTOR + 1) - 1
        .long   IDT32
idt64_pointer:
        .word   16 * (TIMER_VECTOR + 1) - 1
        .quad   IDT64
traps:  .long   0
ticks:  .long   0

# Read with the last sector: present only if all of it was read.
.org 512 * (1 + REST) - 4
marker: .long   MARKER
