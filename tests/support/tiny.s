# A guest of 300 bytes that a BIOS starts from a CD in no time: five times a second it writes `tiny: count N` to its
# first serial port, and it powers itself off when its power button is pressed.

.intel_syntax noprefix
.code16
.globl _start

.set SERIAL, 0x3f8
.set SMI_COMMAND, 0x442e        # VirtualBox's ACPI, as its tables tell
.set PM1_STATUS, 0x4000
.set PM1_CONTROL, 0x4004
.set ACPI_ENABLE, 0xa1
.set POWER_BUTTON, 1 << 8
.set SLEEP_S5, 5 << 10 | 1 << 13
.set TICKS, 0x46c               # of the BIOS's clock, 18.2 a second

_start:
    jmp begin
    .org 64                     # who makes the ISO writes a table in between
begin:
    .byte 0xea                  # jmp 0:here
    .word here, 0
here:
    xor ax, ax
    mov ds, ax
    mov ss, ax
    mov sp, 0x7c00
    cld
    mov dx, SERIAL + 3          # 115200 baud, 8 bits, no parity
    mov al, 0x80
    out dx, al
    mov dx, SERIAL
    mov al, 1
    out dx, al
    inc dx
    mov al, 0
    out dx, al
    mov dx, SERIAL + 3
    mov al, 3
    out dx, al
    mov dx, SMI_COMMAND
    mov al, ACPI_ENABLE
    out dx, al
    xor bx, bx
    sti
counting:
    inc bx
    mov si, offset words
    call write
    mov ax, bx
    call write_number
    mov al, 10
    call write_sign
    mov di, [TICKS]
waiting:
    hlt
    mov dx, PM1_STATUS
    in ax, dx
    test ax, POWER_BUTTON
    jnz off
    mov ax, [TICKS]
    sub ax, di
    cmp ax, 4
    jb waiting
    jmp counting
off:
    mov ax, POWER_BUTTON        # seen
    out dx, ax
    mov dx, PM1_CONTROL
    mov ax, SLEEP_S5
    out dx, ax
    hlt

write:                          # what is at si, up to a zero
    lodsb
    test al, al
    jz written
    call write_sign
    jmp write
written:
    ret

write_number:                   # ax
    xor dx, dx
    mov cx, 10
    div cx
    push dx
    test ax, ax
    jz last
    call write_number
last:
    pop ax
    add al, 48

write_sign:                     # al
    mov ah, al
    mov dx, SERIAL + 5
busy:
    in al, dx
    test al, 0x20
    jz busy
    mov al, ah
    mov dx, SERIAL
    out dx, al
    ret

words:
    .asciz "tiny: count "
