"""Runs a command in a terminal of its own. Lines of stdin are orders: `expect TEXT`, `send TEXT` (Python escapes)."""
import fcntl, os, pty, select, signal, struct, sys, termios, time

pid, fd = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack('HHHH', 40, 140, 0, 0))
    os.execvp(sys.argv[1], sys.argv[1:])
seen = b""

def pump(seconds):
    global seen
    if select.select([fd], [], [], seconds)[0]:
        try:
            data = os.read(fd, 65536)
        except OSError:
            return False
        seen += data
        return bool(data)
    return True

alive = True
for line in sys.stdin:
    verb, _, text = line.rstrip("\n").partition(" ")
    text = text.encode().decode("unicode_escape").encode("latin-1")
    if verb == "send":
        os.write(fd, text)
        continue
    until = time.time() + 60
    while text not in seen:
        if time.time() > until or not alive:
            sys.stdout.buffer.write(seen + b"\n-- never seen: " + text + b"\n")
            os.kill(pid, signal.SIGKILL)
            sys.exit(99)
        alive = pump(0.2)
    seen = seen[seen.index(text) + len(text):]
until = time.time() + 60
while alive and time.time() < until:
    alive = pump(0.2)
sys.stdout.buffer.write(seen)
sys.stdout.flush()
_, status = os.waitpid(pid, 0)
sys.exit(os.waitstatus_to_exitcode(status) % 256)
