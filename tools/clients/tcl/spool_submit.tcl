#!/usr/bin/env tclsh
# Submits one task to a spool and waits for its end, with Tcl alone; sync(1) of GNU coreutils stands in for fsync.
# usage: spool_submit.tcl SPOOL_DIR TASK JSON_ARGS [TIMEOUT_SECONDS]
# exit:  0 done, 1 failed, 2 cancelled, 64 usage, 65 refused, 74 I/O error, 75 not over in time

proc quit {code text} { puts stderr "spool_submit: $text"; exit $code }

if {$argc != 3 && $argc != 4} { quit 64 {usage: spool_submit.tcl SPOOL_DIR TASK JSON_ARGS [TIMEOUT_SECONDS]} }
lassign [list {*}$argv 30] spool task _ timeout
if {![regexp {^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$} $task]} { quit 64 "not a task name: $task" }
if {![regexp {^[0-9]{1,6}$} $timeout]} { quit 64 "not a whole number of seconds below 1000000: $timeout" }
if {[string match ~* $spool]} { set spool ./$spool };    # a name like any other
if {[catch {cd $spool} why]} { quit 64 $why };    # from here on, paths are the spool's

proc contents {path} {
    set in [open $path rb]
    set text [read $in]
    close $in
    return [string trimright $text \n]
}

# A UUIDv7: 48 bits of milliseconds, version 7, 12 random bits, variant 10, 62 random bits.
proc new_id {now} {
    set source [open /dev/urandom rb]
    fconfigure $source -buffersize 10
    binary scan [read $source 10] Su5 random
    close $source
    lassign $random a b c d e
    return [format %012lx7%03x%04x%04x%04x%04x $now [expr {$a & 0xfff}] [expr {$b & 0x3fff | 0x8000}] $c $d $e]
}

proc submit {id task json} {
    # Write the action under a hidden name and sync it. What a crash leaves in tmp/ is ignored and aged out.
    set file [open tmp/.$id {WRONLY CREAT EXCL} 0600]
    fconfigure $file -translation binary
    puts $file "{\"id\":\"$id\",\"task\":\"$task\",\"args\":$json}"
    close $file
    exec sync tmp/.$id
    # Rename: now, and complete, it is visible. Sync the name too; a shared incoming/ may not let us open it.
    file rename tmp/.$id incoming/$id.json
    if {[file readable incoming]} { exec sync incoming }
}

# attempts/DATE/ID.N.json, DATE the date inside the id, N the highest: it may skip
proc newest_record {id now} {
    set day [clock format [expr {$now / 1000}] -gmt 1 -format %Y-%m-%d]
    return [lindex [lsort -dictionary [glob attempts/$day/$id.*.json]] end]
}

proc show {channel text} {
    fconfigure $channel -translation binary
    puts $channel $text
    flush $channel
}

# Looks for the id in the terminal states, where it stands between commas, and among what was refused.
proc wait {id now timeout} {
    for {set waited 0; set pause 5} {1} {incr waited $pause; set pause [expr {min($pause * 2, 200)}]} {
        if {[llength [glob -nocomplain done/*/*,$id,*]]} { show stdout [contents [newest_record $id $now]]; return 0 }
        if {[llength [glob -nocomplain failed/*/*,$id,*]]} { return 1 }
        if {[llength [glob -nocomplain cancelled/*/*,$id,*]]} { return 2 }
        if {[llength [glob -nocomplain rejected/*/$id*]]} {
            foreach reason [glob -nocomplain rejected/*/$id*.reason.json] { show stderr [contents $reason] }
            return 65
        }
        if {$waited >= 1000 * [scan $timeout %d]} { quit 75 "not over after $timeout s; the task goes on" }
        after $pause
    }
}

if {![file isfile format] || [contents format] ne {spool 1}} { quit 64 "not a spool of format 1: $spool" }
set now [clock milliseconds]
if {[catch {
    set id [new_id $now]
    # the bytes of the argument: in argv, what is not UTF-8 is something else
    set json [lindex [split [contents /proc/self/cmdline] \0] end-[expr {$argc - 2}]]
    submit $id $task $json
    show stdout $id
    set status [wait $id $now $timeout]
} why]} { quit 74 $why };    # not Tcl's 1, which means the task failed
exit $status
