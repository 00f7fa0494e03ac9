#!/usr/bin/perl
# Submits one task to a spool and waits for its end, with core modules alone.
# usage: spool_submit.pl SPOOL_DIR TASK JSON_ARGS [TIMEOUT_SECONDS]
# exit:  0 done, 1 failed, 2 cancelled, 64 usage, 65 refused, 74 I/O error, 75 not over in time
use strict;
use warnings;
use Fcntl qw(O_WRONLY O_CREAT O_EXCL);
use IO::Handle;
use POSIX qw(strftime);
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC sleep time);

sub quit { my ($code, $text) = @_; print STDERR "spool_submit: $text\n"; exit $code }

quit(64, 'usage: spool_submit.pl SPOOL_DIR TASK JSON_ARGS [TIMEOUT_SECONDS]') unless @ARGV == 3 || @ARGV == 4;
my ($spool, $task, $args, $timeout) = (@ARGV, 30);
quit(64, "not a task name: $task") unless $task =~ /\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\z/;
quit(64, "not a whole number of seconds below 1000000: $timeout") unless $timeout =~ /\A[0-9]{1,6}\z/;
chdir $spool or quit(64, "$spool: $!");    # from here on, paths are the spool's
quit(64, "not a spool of format 1: $spool") unless -r 'format' && contents('format') eq "spool 1\n";

# 1. The id, a UUIDv7: 48 bits of milliseconds, version 7, 12 random bits, variant 10, 62 random bits.
open my $source, '<:raw', '/dev/urandom' or quit(74, "/dev/urandom: $!");
(read($source, my $bytes, 10) // 0) == 10 or quit(74, "/dev/urandom: $!");
my @random = unpack 'n5', $bytes;
my $now = time;
my $id = sprintf '%012x7%03x%04x%04x%04x%04x',
    int($now * 1000), $random[0] & 0x0fff, $random[1] & 0x3fff | 0x8000, @random[2 .. 4];

# 2. Write the action under a hidden name and sync it. What a crash leaves in tmp/ is ignored and aged out.
my ($hidden, $visible) = ("tmp/.$id", "incoming/$id.json");
sysopen my $file, $hidden, O_WRONLY | O_CREAT | O_EXCL, 0600 or quit(74, "$hidden: $!");
print {$file} qq({"id":"$id","task":"$task","args":$args}\n) or quit(74, "$hidden: $!");
$file->flush && $file->sync && close $file or quit(74, "$hidden: $!");

# 3. Rename: now, and complete, it is visible. Sync the name too; a shared incoming/ may not let us open it.
rename $hidden, $visible or quit(74, "$visible: $!");
if (open my $dir, '<', 'incoming') {
    $dir->sync or quit(74, "incoming: $!");
} elsif (!$!{EACCES}) {
    quit(74, "incoming: $!");
}
print "$id\n" and STDOUT->flush or quit(74, "stdout: $!");

# 4. Look for the id in the terminal states, where it stands between commas, and among what was refused.
my ($give_up, $pause) = (clock_gettime(CLOCK_MONOTONIC) + $timeout, 0.005);
while (1) {
    for my $state (qw(done failed cancelled rejected)) {
        opendir my $dir, "$state/." or $!{ENOENT} or quit(74, "$state: $!");
    }
    if (() = glob "done/*/*,$id,*") {
        print contents(newest_record()) and STDOUT->flush or quit(74, "stdout: $!");
        exit 0;
    }
    exit 1 if () = glob "failed/*/*,$id,*";
    exit 2 if () = glob "cancelled/*/*,$id,*";
    if (() = glob "rejected/*/$id*") {
        print STDERR map { contents($_) } glob "rejected/*/$id*.reason.json";
        exit 65;
    }
    quit(75, "not over after $timeout s; the task goes on") if clock_gettime(CLOCK_MONOTONIC) >= $give_up;
    sleep $pause;
    $pause = $pause < 0.1 ? $pause * 2 : 0.2;
}

sub newest_record {    # attempts/DATE/ID.N.json, DATE the date inside the id, N the highest: it may skip
    my %path = map { /\.(\d+)\.json\z/ ? ($1 => $_) : () } glob strftime("attempts/%Y-%m-%d/$id.*.json", gmtime $now);
    return $path{(sort { $b <=> $a } keys %path)[0] // quit(74, 'no attempt record')};
}

sub contents {    # ending in one newline
    my ($path) = @_;
    open my $in, '<:raw', $path or quit(74, "$path: $!");
    return (join('', <$in>) =~ s/\n*\z/\n/r);
}
