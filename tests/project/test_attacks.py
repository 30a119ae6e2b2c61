"""Hostile submissions: what a stranger's cell may try on the grader, its marks and its machine.

Every attack is bounded in itself, so that a sandbox that fails takes no machine down. An attack
that could do or read what it must not returns a text that begins with ESCAPED; one that was held
back returns "contained", which a message quotes: that proves that it ran at all.
"""

import contextlib
import inspect
import json
import os
import platform
import re
import sys
import textwrap
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import cells_of, reference

from circuits.chapters import ROOT, chapters, load_module
from circuits.exercises import Report
from circuits.grading import submissions
from circuits.grading.grader import Graded, Grader, Job
from circuits.grading.remote import MESSAGE_LENGTH
from circuits.results import CheckResult, Result

CHAPTER = next(c for c in chapters() if c.name == "1_bigrams")
ANSWERS = reference(CHAPTER)
HONEST = {name: ANSWERS[name] for name in ("zero_layer_logits", "direct_path", "top_next")}
SECRET = "a-secret-of-the-instructor"
LIMIT = 900.0  # by the clock, for one submission. What it may cost a free machine is counted in seconds of its own
X86_64 = platform.machine() == "x86_64"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")


# The grader and what is asked of it ---------------------------------------------------------


@pytest.fixture(scope="module")
def grader():
    """One grading process for all attacks; if one breaks it, the next starts another."""
    os.environ["CIRCUITS_TEST_SECRET"] = SECRET
    with Grader() as one:
        one.start()
        assert one.unsandboxed is None, f"these tests need the sandbox: {one.unsandboxed}"
        yield one
    del os.environ["CIRCUITS_TEST_SECRET"]


def grade(grader: Grader, cells: dict[str, str], limit: float = LIMIT) -> Graded:
    """Grade a submission; its grading process is killed if it takes longer than `limit`."""
    grader.start()
    process, late = grader.process, threading.Event()

    def stop():
        late.set()
        process.kill()

    timer = threading.Timer(limit, stop)
    timer.start()
    try:
        graded = grader.grade(Job(CHAPTER.name, cells_of(cells), seed=7, root=ROOT))
    finally:
        timer.cancel()
    assert not late.is_set(), f"the grading took more than {limit:g} seconds"
    assert graded.error is None, graded.error
    return graded


def points(graded: Graded) -> dict[str, float]:
    return {result.exercise: result.points for result in graded.results}


def messages(graded: Graded) -> list[str]:
    """Everything in words that a submission could have had a hand in."""
    told = [check.message for result in graded.results for check in result.checks]
    return [text for text in told + [r.hint for r in graded.results] if text]


def descendants(pid: int) -> dict[int, str]:
    """The processes below one, by number, with their names."""
    parents, names = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
            child = int(stat.parent.name)
            parents[child], names[child] = int(rest.split()[1]), name
    found: dict[int, str] = {}
    for child in parents:
        ancestor = child
        while ancestor in parents and ancestor != pid:
            ancestor = parents[ancestor]
        if ancestor == pid and child != pid:
            found[child] = names[child]
    return found


def check_nothing_survives(grader: Grader) -> None:
    """Below the grading process is the warm one, and nothing else."""
    deadline = time.monotonic() + 600  # the kernel may still be at it
    while len(left := descendants(grader.process.pid)) > 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(left) == 1, f"left behind: {left}"


def check_messages(graded: Graded) -> None:
    """What is shown to people does no harm to a terminal or a page."""
    for text in messages(graded):
        assert text.isprintable() and len(text) <= MESSAGE_LENGTH, ascii(text)
        assert "ESCAPED" not in text, text
    for result in graded.results:
        page = Report(result, graded=True).html().lower()
        assert not any(tag in page for tag in ("<script", "<img", "<svg", "<iframe", "</body")), page


def check_neighbour(grader: Grader) -> None:
    """The next one in line, who is honest, gets full marks."""
    graded = grade(grader, HONEST)
    assert graded.points == sum(CHAPTER.exercises[name] for name in HONEST), messages(graded)


def assail(grader: Grader, cells: dict[str, str], spoils: bool, limit: float = LIMIT) -> Graded:
    """Grade an attack together with honest answers, and see that it harmed nobody but itself.
    `spoils`: it may break what else runs in its own process."""
    try:
        honest = {name: code for name, code in HONEST.items() if name not in cells}
        graded = grade(grader, {**cells, **honest}, limit)
        check_nothing_survives(grader)
        check_messages(graded)
        got = points(graded)
        if not spoils:
            full = {name: CHAPTER.exercises[name] for name in honest}
            assert {name: got[name] for name in honest} == full, messages(graded)
        check_neighbour(grader)
    except BaseException:
        grader.close()  # the next test gets a sound one
        raise
    return graded


# Writing attacks ----------------------------------------------------------------------------


# Attacks that use up a whole limit, of time or of memory: `make proof` runs them.
DEAR = {
    "memory, in many pieces", "memory, whatever may be raised", "two thousand threads", "all descriptors",
    "threads that compute on after the answer", "a loop that catches everything", "sleeping, deaf to every signal",
}  # fmt: skip


@dataclass
class Attack:
    name: str
    cells: dict[str, str]
    spoils: bool = False
    contained: bool = False  # says so itself, in its first check
    limit: float = LIMIT
    marks: list = field(default_factory=list)

    def param(self):
        marks = [pytest.mark.proof] if self.name in DEAR else []
        return pytest.param(self, id=self.name, marks=[*self.marks, *marks])


def cell(body: str, before: str = "", exercise: str = "bigram_counts", args: str = "tokens, d_vocab") -> dict:
    """A cell that defines an answer, with code before it."""
    body = textwrap.indent(textwrap.dedent(body).strip(), "    ")
    return {exercise: f"{textwrap.dedent(before).strip()}\n\ndef {exercise}({args}):\n{body}\n"}


def probe(name: str, body: str, before: str = "", **more) -> Attack:
    """An attack that puts what it could do into a list `found`."""
    body = textwrap.dedent(body).strip()
    end = '\nreturn "ESCAPED " + ascii(found)[:50] if found else "contained"'
    return Attack(name, cell("found = []\n" + body + end, before), contained=True, **more)


def tries(*lines: str, imports: str = "ctypes, os, signal, socket, subprocess, threading") -> str:
    """Code that evaluates each line, and takes down those that raise nothing and are not -1."""
    return (
        f"import {imports}\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        f"for line in {list(lines)!r}:\n"
        "    try:\n"
        "        if eval(line) != -1: found.append(line)\n"
        "    except (OSError, ValueError, AttributeError, NotImplementedError, ImportError): pass\n"
    )


# For attacks on the wire: the connection, the ticket of the request at hand, and whole frames.
FORGE = """
import json, os, socket, stat, struct, sys, threading, time
import torch
from safetensors.torch import save

def connection():
    for fd in range(3, 64):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode): return fd
        except OSError: pass

def ticket():
    frame = sys._getframe()
    while frame:
        request = frame.f_locals.get("request")
        if type(request) is dict and "ticket" in request: return request["ticket"]
        frame = frame.f_back

def put(data):
    while data: data = data[os.write(connection(), data):]

def frame(tree, tensors=b"", models=b"[]"):
    tree = b"[" + models + b"," + tree + b"]"
    return struct.pack(">QQ", len(tree), len(tensors)) + tree + tensors

def reply(value, tensors=b"", more="", models="[]"):
    tree = '{"dict":[["ticket","%s"],["value",%s]%s]}' % (ticket(), value, more)
    put(frame(tree.encode(), tensors, models.encode()))

def right(tokens, d_vocab):
    pairs = tokens[:-1] * d_vocab + tokens[1:]
    return torch.bincount(pairs, minlength=d_vocab**2).reshape(d_vocab, d_vocab)
"""


def forged(name: str, body: str, **more) -> Attack:
    return Attack(name, cell(body, FORGE), **more)


def attacks(*all_of_them: Attack):
    return pytest.mark.parametrize("attack", [attack.param() for attack in all_of_them])


def run(grader: Grader, attack: Attack) -> Graded:
    """Run an attack: it must gain nothing and harm nobody."""
    graded = assail(grader, attack.cells, attack.spoils, attack.limit)
    got = points(graded)
    assert not any(got.get(name) for name in attack.cells), f"points: {got}"
    if attack.contained:
        said = next(r.checks[0].message for r in graded.results if r.exercise in attack.cells)
        assert "contained" in said, said
    return graded


# Values that lie ----------------------------------------------------------------------------

EQUAL = """
class Equal:
    __eq__ = __le__ = __ge__ = __lt__ = __gt__ = lambda self, other: True
    __ne__ = lambda self, other: False
    __hash__ = lambda self: 0
    __bool__ = lambda self: True
    __len__ = lambda self: 2
    __iter__ = lambda self: iter([self, self])
    __getitem__ = lambda self, at: self
    __getattr__ = lambda self, name: self
    __call__ = lambda self, *a, **k: self
    __float__ = lambda self: 0.0
    __int__ = __index__ = lambda self: 0
    __array__ = lambda self, *a, **k: __import__("numpy").zeros((2, 2))
"""


@attacks(
    Attack("equal to everything", cell("return Equal()", EQUAL)),
    Attack("a list of what equals everything", cell("return [[Equal()] * d_vocab] * d_vocab", EQUAL)),
    Attack(
        "a tensor that answers every torch function with yes",
        cell(
            "return Yes(torch.zeros(d_vocab, d_vocab, dtype=torch.long))",
            """
            class Yes(torch.Tensor):
                @classmethod
                def __torch_function__(cls, func, types, args=(), kwargs=None):
                    return torch.tensor(True)
                def __eq__(self, other): return True
            """,
        ),
    ),
    Attack(
        "a float that equals every number",
        cell(
            "return Any(1)",
            """
            class Any(float):
                __eq__ = __lt__ = __gt__ = lambda self, other: True
                __ne__ = lambda self, other: False
                __hash__ = float.__hash__
            """,
            "mean_kl", "p, q, weights",
        ),
    ),
    Attack(
        "numbers and a text of their own kinds",
        cell(
            "return [Whole(pos), Text('0')]",
            """
            class Whole(int):
                __eq__ = lambda self, other: True
                __hash__ = int.__hash__
                __int__ = lambda self: 0
            class Text(str):
                __eq__ = lambda self, other: True
                __hash__ = str.__hash__
            """,
            "positions_that_matter", "pos",
        ),
    ),
    Attack(
        "a list that lies about its length and what is in it",
        cell(
            "return Lies(range(k))",
            """
            class Lies(list):
                __len__ = lambda self: 4
                __iter__ = lambda self: iter(range(10**12))
                __eq__ = lambda self, other: True
            """,
            "top_next", "model, token, k",
        ),
    ),
    Attack(
        "something that says it is a tensor",
        cell(
            "return Liar()",
            """
            class Liar:
                __class__ = property(lambda self: torch.Tensor)
                dtype, shape, layout, requires_grad = torch.int64, torch.Size((3, 3)), torch.strided, False
                detach = clone = as_subclass = lambda self, *a, **k: self
            """,
        ),
    ),
    Attack(
        "something that raises SystemExit when it is looked at",
        cell(
            "return Shy()",
            """
            class Shy:
                @property
                def __class__(self): raise SystemExit(0)
            """,
        ),
    ),
    Attack("NaN everywhere", cell("return torch.full((4, 4), float('nan'))", "", "direct_path", "W_E, W_U")),
    Attack("a sparse tensor", cell("return torch.eye(d_vocab, dtype=torch.long).to_sparse()")),
    Attack(
        "a tensor without numbers",
        cell("return torch.empty(d_vocab, d_vocab, dtype=torch.long, device='meta')"),
    ),
    Attack(
        "a list that contains itself",
        cell("got = []\ngot.append(got)\nreturn got"),
    ),
    Attack(
        "a pickle, and an object that is one",
        cell(
            "return [pickle.dumps(Bomb()), Bomb()]",
            """
            import pickle
            class Bomb:
                def __reduce__(self): return (exec, ("raise SystemExit",))
            """,
        ),
    ),
    Attack(
        "an object whose copies misbehave",
        cell(
            "return Copied()",
            """
            class Copied:
                def __deepcopy__(self, memo): raise KeyboardInterrupt
                __reduce_ex__ = __copy__ = __deepcopy__
            """,
        ),
    ),
)
def test_values_that_lie_gain_nothing(grader, attack):
    run(grader, attack)


# Patching one's own process -----------------------------------------------------------------


@attacks(
    Attack(
        "torch says that all is equal",
        cell(
            "return torch.zeros(d_vocab, d_vocab, dtype=torch.long)",
            """
            for name in ("allclose", "equal", "isclose"):
                setattr(torch, name, lambda a, b=None, **k: torch.ones((), dtype=torch.bool))
            torch.as_tensor = lambda x, *a, **k: torch.zeros(3, 3)
            torch.Tensor.__eq__ = lambda self, other: True
            """,
        ),
        spoils=True,
    ),
    Attack(
        "the checks' words say nothing",
        cell(
            "return 1",
            """
            import sys, circuits.checking as checking
            nothing = lambda *a, **k: None
            for name in ("expect", "require", "fail", "check_annotation", "run_check", "problem"):
                setattr(checking, name, nothing)
            checking.CheckResult.passed = True
            checking.Result.points = checking.Result.max_points = property(lambda self: 99.0)
            sys.modules["circuits.checking"] = sys.modules["circuits.chapters"] = None
            """,
        ),
        spoils=True,
    ),
    Attack(
        "the worker's own functions are replaced",
        cell(
            "return 1",
            """
            import sys
            worker = sys.modules["circuits.grading.worker"]
            worker._call = lambda answers, request: {
                "passed": True, "points": 99, "value": None, "problem": None, "after": request["args"]}
            worker.pack = lambda value, pack=worker.pack: pack({**value, "points": 99})
            """,
        ),
        spoils=True,
    ),
    Attack(
        "models and configurations of its own",
        cell(
            "return model",
            """
            import utils.model
            utils.model.Config.__eq__ = lambda self, other: True
            utils.model.Transformer.forward = lambda self, tokens: torch.zeros(*tokens.shape, 7)
            Transformer.forward = utils.model.Transformer.forward
            """,
            "rotate_residual", "model, R",
        ),
        spoils=True,
    ),
    Attack(
        "import hooks, a tracer and a profiler",
        cell(
            "return 1",
            """
            import builtins, sys
            class Finder:
                def find_spec(self, name, path=None, target=None):
                    raise ImportError(name)
            sys.meta_path.insert(0, Finder())
            sys.settrace(lambda *a: None)
            sys.setprofile(lambda *a: None)
            builtins.len = builtins.isinstance = lambda *a: True
            """,
        ),
        spoils=True,
    ),
    probe(
        "leaving code for others in Python's library and in the course",
        """
        import importlib.util, site, sys, sysconfig, os
        places = [sysconfig.get_path("purelib"), sysconfig.get_path("stdlib"),
                  os.path.dirname(importlib.util.find_spec("utils").origin),
                  os.path.dirname(importlib.util.find_spec("torch").origin),
                  os.path.dirname(importlib.util.find_spec("utils").origin) + "/grading",
                  "/", "/usr/lib", "/root", "/etc", "/dev"]
        for place in places:
            for name in ("sitecustomize.py", "attack_left.pth", "__pycache__/attack_left.pyc"):
                try:
                    with open(os.path.join(place, name), "x"): found.append(place)
                    os.unlink(os.path.join(place, name))
                except OSError: pass
        for file in (importlib.util.find_spec("circuits.checking").origin, os.__file__):
            for change in (lambda: open(file, "r+").close(), lambda: os.chmod(file, os.stat(file).st_mode),
                           lambda: os.utime(file), lambda: os.rename(file, file + "x"),
                           lambda: os.link(file, "/tmp/linked")):
                try: change(); found.append(file)
                except OSError: pass
        """,
    ),
    probe(
        "changing devices that the machine shares",
        # The mode stays what it is: only whether it could be changed is asked.
        """
        import os
        for device in ("/dev/null", "/dev/zero", "/dev/urandom"):
            try: os.chmod(device, os.stat(device).st_mode & 0o777); found.append(device)
            except OSError: pass
            try: os.setxattr(device, "user.attack", b""); found.append(device)
            except OSError: pass
            try: os.rename(device, device + "x"); found.append(device)
            except OSError: pass
        """,
    ),
    Attack(
        "one cell redefines other exercises, wrongly",
        {
            **cell(
                "return 1",
                """
                def direct_path(W_E, W_U): return 0
                def top_next(model, token, k): return []
                """,
            )
        },
    ),
)
def test_patching_its_own_process_gains_nothing(grader, attack):
    run(grader, attack)


def test_a_cell_in_the_name_of_the_set_up_gains_nothing(grader):
    """`submissions.read` lets no such cell through; the grader does not rely on it."""
    assail(grader, {"setup": "import os\nos._exit(0)", **cell("return 1")}, spoils=True)


def test_a_cell_for_an_exercise_that_does_not_exist_counts_for_nothing(grader):
    graded = assail(grader, {"__class__": "x = 1", "../../etc": "y = 2", "stop": "z = 3"}, spoils=False)
    assert graded.points == sum(CHAPTER.exercises[name] for name in HONEST)


# Looking for secrets ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def secrets(tmp_path_factory) -> list[str]:
    """What an instructor has on disk: made up, or the real files of this course."""
    course = tmp_path_factory.mktemp("instructor")
    made = ["gradebook.db", ".grading/secret", "submitted/ada/1_bigrams/bigrams.ipynb",
            "source/1_bigrams/bigrams.ipynb", "autograded/ada/1_bigrams/bigrams.ipynb"]
    for name in made:
        (course / name).parent.mkdir(parents=True, exist_ok=True)
        (course / name).write_text(SECRET)
    here = [CHAPTER.source, CHAPTER.checks_file, CHAPTER.mistakes_file, CHAPTER.variants_file,
            CHAPTER.notebook, ROOT / "tests/conftest.py", ROOT / "nbgrader_config.py", ROOT / ".git/HEAD"]
    system = ["/etc/passwd", "/etc/hostname", "/proc/self/environ", "/proc/self/mem", "/proc/1/cmdline",
              "/proc/cpuinfo", "/sys/kernel/notes", "/dev/mem", "/dev/kmsg", "/dev/tty", "/dev/ptmx",
              "/dev/shm", "/run", "/var", "/home", "/root", "/opt", "/boot", "/proc", "/sys", "/etc",
              str(Path.home()), str(course), str(ROOT / "solutions"), str(ROOT / "tests")]
    return [*(str(course / name) for name in made), *map(str, here), *system]


def test_no_file_can_be_read_but_python_s_and_the_course_s_library(grader, secrets):
    body = f"""
    import contextlib, os, sys, utils
    known = [*map(os.path.abspath, [*sys.path, sys.prefix, sys.base_prefix, os.path.dirname(utils.__file__)])]
    for name in {secrets!r}:
        for path in (name, "/tmp/.." + name, "/proc/1/root" + name, "/oldroot" + name, "/newroot" + name):
            try:
                with contextlib.suppress(FileExistsError): os.symlink(path, link := "/tmp/link")
                for way in (path, link):
                    if os.path.isdir(way):  # folders lead to Python and to the library, and to nothing else
                        found += [e for e in os.listdir(way)
                                  if not any(p.startswith(os.path.normpath(os.path.join(path, e))) for p in known)]
                    else:
                        os.close(os.open(way, os.O_RDONLY | os.O_NONBLOCK)); found.append(way)
            except OSError: pass
            with contextlib.suppress(OSError): os.unlink("/tmp/link")
    """
    existing = [name for name in secrets if os.path.exists(name)]
    assert len(existing) > 15, existing
    run(grader, probe("reading secrets", body))


HINT = "Rows and columns are [e]xchanged|counts every [a]djacent pair|should be numbers; [m]ine"


@attacks(
    probe(
        "walking the whole tree for names that belong to the course's secrets",
        """
        import os, time
        end = time.monotonic() + 3
        for place, folders, files in os.walk("/"):
            if time.monotonic() > end: break
            folders[:] = [f for f in folders if f != "site-packages" and place not in ("/usr", "/")
                          or place == "/" and f not in ("usr", "lib", "lib64")]
            for name in files:
                if name in ("gradebook.db", "secret", "test_bigrams.py", "bigrams.py", "bigrams.ipynb",
                            "shadow", "id_rsa", ".bash_history", "nbgrader_config.py"):
                    found.append(os.path.join(place, name))
        """,
    ),
    probe(
        "objects and modules in its own memory",
        """
        import gc, sys
        found += [n for n in sys.modules if n.startswith(("circuits_", "tests", "test_bigrams", "mistakes"))]
        for thing in gc.get_objects():
            try:
                given = vars(thing)
            except TypeError: continue
            if isinstance(given, dict) and type(thing).__name__ == "function":
                if "exercise" in given or "hint" in given: found.append(repr(thing))
        for name in ("circuits.checking", "circuits.chapters", "circuits.grading.remote", "circuits.grading.grader"):
            module = sys.modules.get(name)
            for word in ("seed", "secret", "rng", "expected", "_reference"):
                value = getattr(module, word, None)
                if value is not None and getattr(value, "cache_info", lambda: (0,0,0,0))()[3]:
                    found.append(name + word)
        for f in list(sys._current_frames().values()):
            while f:
                found += [n for n in ("check", "checks", "want", "seed", "rng", "secret")
                          if not callable(f.f_locals.get(n, print))]
                f = f.f_back
        """,
    ),
    probe(
        "every page of its heap",
        # write() says EFAULT for a page that is not there, where reading it would crash.
        f"""
        import ctypes, os, re
        libc = ctypes.CDLL(None)
        libc.sbrk.restype = ctypes.c_void_p
        read, write = os.pipe()
        pattern = re.compile({HINT!r}.encode())
        top = libc.sbrk(ctypes.c_long(0))
        for start in (top - (1 << 26), id(object()) - (1 << 25)):
            for page in range(start & ~4095, start + (1 << 26), 4096):
                if libc.write(write, ctypes.c_void_p(page), 4096) == 4096:
                    if pattern.search(os.read(read, 4096)): found.append(hex(page))
        """,
        before="import torch",
    ),
    probe(
        "the environment and the command line",
        f"""
        import ctypes, os, sys
        told = repr((os.environ, os.environb, sys.argv, sys.orig_argv, sys.flags))
        if {SECRET[::-1]!r}[::-1] in told or "PYTEST" in told or "CIRCUITS" in told: found.append(told)
        known = {{"PATH", "LANG", "HOME", "TMPDIR", "LC_CTYPE", "KMP_INIT_AT_FORK", "TORCHINDUCTOR_CACHE_DIR"}}
        found += [name for name in os.environ if name not in known]
        """,
    ),
    probe(
        "descriptors that were left open",
        """
        import os, stat
        sockets = 0
        for fd in range(1025):
            try: got = os.fstat(fd)
            except OSError: continue
            if stat.S_ISSOCK(got.st_mode): sockets += 1
            elif (os.major(got.st_rdev), os.minor(got.st_rdev)) != (1, 3): found.append(fd)
        if sockets != 1: found.append(sockets)
        """,
    ),
    probe(
        "the address of the other side",
        """
        import os, socket, stat
        for fd in range(3, 64):
            try:
                if not stat.S_ISSOCK(os.fstat(fd).st_mode): continue
            except OSError: continue
            own = socket.socket(fileno=os.dup(fd))
            found += [a for a in (own.getsockname(), own.getpeername()) if a]
            own.setblocking(False)
            try:
                if own.recv(1): found.append("a request that is not ours")
            except BlockingIOError: pass
        """,
    ),
)
def test_secrets_are_not_to_be_found(grader, attack):
    run(grader, attack)


THIEF = """
def predict_distance(counts):
    for seed in SEEDS[::-1]:
        rng = torch.Generator().manual_seed(seed)
        if torch.equal(counts_of_fresh_text(rng, 80, 20_000), counts):
            return measured_distance(rng, counts, next(CALLS))
    return torch.arange(len(counts)).float()
"""


def test_the_seed_of_the_inputs_does_not_reach_an_answer(grader):
    """`sample` is given a random generator. Who knows the seed, and the checks (they are public),
    can make the hidden model of `predict_distance` anew, and read the right result off it."""
    module = load_module(CHAPTER.checks_file)
    spy = ANSWERS["sample"].replace(
        "    ### BEGIN SOLUTION\n", "    SEEDS.append(generator.initial_seed())\n", 1
    )
    assert spy != ANSWERS["sample"]
    thief = "\n\n".join(
        [
            inspect.getsource(module.counts_of_fresh_text),
            inspect.getsource(module.measured_distance),
            THIEF,
        ]
    )
    graded = assail(grader, {"sample": "SEEDS, CALLS = [], iter((8, 4))\n" + spy, "predict_distance": thief}, spoils=False)
    assert points(graded)["predict_distance"] == 0


# On the wire --------------------------------------------------------------------------------

TENSOR = '{"tensor":["0",false]}'


def test_whoever_forges_a_reply_is_read(grader):
    """A worker is not believed, and may say what it likes: this proves that the forgeries below
    are in a form that is read at all."""
    cells = cell('reply("-123.5")\nos._exit(0)', FORGE, "conditional_entropy", "counts")
    graded = assail(grader, cells, spoils=False)
    [result] = [result for result in graded.results if result.exercise == "conditional_entropy"]
    assert "yours is -123.5" in result.checks[0].message


@attacks(
    forged("a reply with a guessed ticket, before the real one", """
        put(frame(json.dumps({"dict": [["ticket", "0" * 16], ["value", 1]]}).encode()))
        return 1
    """),
    forged("no ticket at all", """
        put(frame(b'{"dict":[["value",1]]}'))
        return right(tokens, d_vocab)
    """),
    forged("a verdict instead of a value", """
        reply('"x"', more=',["passed",true],["points",99],["results",{"list":[]}]')
        os._exit(0)
    """),
    forged("half a reply, then the end", """
        put(frame(b'{"dict":[]}')[:20])
        os._exit(0)
    """),
    forged("a header and then nothing", """
        put(struct.pack(">QQ", 1000, 1000))
        os._exit(0)
    """),
    forged("an enormous length", "put(struct.pack('>QQ', 2**63, 2**63))\nreturn 1"),
    forged("lengths that add up to nothing", "put(struct.pack('>QQ', 2**64 - 1, 1) + b'x' * 9000)\nreturn 1"),
    forged("negative lengths", "put(struct.pack('>qq', -16, 16) + b'x' * 100)\nreturn 1"),
    forged("garbage", "put(os.urandom(1 << 20))\nreturn 1"),
    forged("a pickle", """
        import pickle
        put(frame(pickle.dumps({"ticket": ticket(), "value": 1})))
        return 1
    """),
    forged("what is no dictionary", "put(frame(b'{\"list\":[]}'))\nput(frame(b'null'))\nreturn 1"),
    forged("a bare JSON object with two keys", "put(frame(b'{\"dict\":[],\"list\":[]}'))\nreturn 1"),
    forged("200 MB, announced", "put(struct.pack('>QQ', 10, 200 * 2**20) + bytes(1 << 20))\nreturn 1"),
    Attack("200 MB, returned", cell("return torch.zeros(200 * 2**20, dtype=torch.uint8)")),
    Attack("9 MB of text, returned", cell("return 'x' * (9 * 2**20)")),
    forged("nested a hundred thousand deep", """
        n = 100_000
        reply('{"list":[' * n + ']}' * n)
        os._exit(0)
    """),
    forged("nested a hundred thousand deep in brackets", "reply('[' * 100000 + ']' * 100000)\nos._exit(0)"),
    forged("nested as deep as just passes", "reply('{\"list\":[' * 300 + ']}' * 300)\nos._exit(0)"),
    forged("a million digits", "reply('9' * 10**6)\nos._exit(0)"),
    forged("four thousand digits, where a float is asked for", "reply('9' * 4000)\nos._exit(0)"),
    forged("not numbers", "reply('[NaN,Infinity,-Infinity]')\nos._exit(0)"),
    forged("a float of its own words", 'reply(\'{"float":"__import__"}\')\nos._exit(0)'),
    forged("keys that cannot be keys", """
        reply('{"dict":[[{"list":[]},1],[{"dict":[]},2]]}')
        os._exit(0)
    """),
    forged("two tickets, two values", """
        t = ticket()
        put(frame(('{"dict":[["ticket","no"],["ticket","%s"],["value",1],["value",2]]}' % t).encode()))
        os._exit(0)
    """),
    forged("a problem that is no word", """
        put(frame(('{"dict":[["ticket","%s"],["problem",{"list":[1]}]]}' % ticket()).encode()))
        os._exit(0)
    """),
    forged("an error of its own words", """
        put(frame(('{"dict":[["ticket","%s"],["problem","raised"],["raised",{"list":["ESCA"+"PED","x"]}],'
                   '["line",-1]]}' % ticket()).replace('ESCA"+"PED', "ESCA" + "PED").encode()))
        os._exit(0)
    """),
    forged("an optimizer", 'reply(\'{"optimizer":["SGD",{"dict":[]}]}\')\nos._exit(0)'),
    forged("a cache", 'reply(\'{"cache":[{"dict":[]},0]}\')\nos._exit(0)'),
    forged("a generator", """
        reply('{"generator":"0"}', save({"0": torch.Generator().get_state()}))
        os._exit(0)
    """),
    forged("kinds that do not exist", 'reply(\'{"__reduce__":["os.system","true"]}\')\nos._exit(0)'),
    forged("tensors with a lying header", """
        head = json.dumps({"0": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}).encode()
        reply(TENSOR, struct.pack("<Q", len(head)) + head + bytes(4))
        os._exit(0)
    """.replace("TENSOR", repr(TENSOR))),
    forged("tensors with a header of enormous length", """
        reply(TENSOR, struct.pack("<Q", 2**63) + b"{}")
        os._exit(0)
    """.replace("TENSOR", repr(TENSOR))),
    forged("a tensor without entries and of enormous shape", """
        head = json.dumps({"0": {"dtype": "I64", "shape": [2**40, 0], "data_offsets": [0, 0]}}).encode()
        reply(TENSOR, struct.pack("<Q", len(head)) + head)
        os._exit(0)
    """.replace("TENSOR", repr(TENSOR))),
    forged("a tensor that is not there", "reply('{\"tensor\":[\"7\",false]}')\nos._exit(0)"),
    forged("numbers of eight bits and no standard", """
        reply(TENSOR, save({"0": torch.zeros(3, 3).to(torch.float8_e4m3fn)}))
        os._exit(0)
    """.replace("TENSOR", repr(TENSOR))),
    forged("truths that are neither true nor false", """
        head = json.dumps({"0": {"dtype": "BOOL", "shape": [3, 3], "data_offsets": [0, 9]}}).encode()
        reply(TENSOR, struct.pack("<Q", len(head)) + head + bytes(range(250, 259 - 3)) + b"abc")
        os._exit(0)
    """.replace("TENSOR", repr(TENSOR))),
    Attack(
        "a thread that outlives the call and writes replies later",
        cell(
            """
            def later():
                end = time.monotonic() + 5
                while time.monotonic() < end:
                    put(frame(b'{"dict":[["ticket","x"],["value",1]]}'))
                    time.sleep(0.01)
            threading.Thread(target=later, daemon=True).start()
            return 1
            """,
            FORGE,
        ),
    ),
    forged("the real reply and another one behind it", """
        reply("1")
        reply("2")
        return 3
    """),
)
def test_forged_replies_gain_nothing(grader, attack):
    run(grader, attack)


def model_reply(changes: str) -> str:
    """A cell that answers `rotate_residual` with a model whose configuration was tampered with."""
    return FORGE + textwrap.dedent(
        f"""
        from safetensors.torch import load
        from circuits.grading.wire import pack

        def rotate_residual(model, R):
            packed = pack(model)
            n, _ = struct.unpack_from(">QQ", packed)
            models, tree = json.loads(packed[16 : 16 + n])
            body, tensors = models[0], load(packed[16 + n :])
            settings, weights = body["config"], body["weights"]
            {changes}
            reply(json.dumps(tree), save(tensors), models=json.dumps(models))
            os._exit(0)
        """
    )


@pytest.mark.parametrize(
    "changes",
    [
        "settings['n_layers'] = 10**9",
        "settings['n_layers'] = -1",
        "settings['n_layers'] = 64.0",
        "settings['d_vocab'] = 10**12",
        "settings['d_vocab'] = -7",
        "settings['d_vocab'] = 2**70",
        "settings['d_model'] = [4]",
        "settings['n_ctx'] = 10**15",
        "settings.update(n_layers=64, n_heads=10**6, d_head=10**6, d_model=10**9)",
        "settings['act_fn'] = 'exec'",
        "settings['__class__'] = 'os.system'",
        "del settings['eps']",
        "body['weights'] = {'_extra_state': '0', **weights}",
        "body['grads'] = {'embed.W_E': '0', 'no.such': '0'}",
        "body['frozen'] = {}",
        "models.clear()",
        "models.append(models[0]); tree['model'] = -1",
        "tree['model'] = [0]",
        "body['tokenizer'] = '/etc/passwd'; body['weights'] = {}",
        "tensors['0'] = torch.zeros(1)",
    ],
)
def test_models_that_cannot_be_are_refused(grader, changes):
    run(grader, Attack("a model", {"rotate_residual": model_reply(changes)}))


def train_reply(after: str, value: str = "0.0") -> dict[str, str]:
    """A cell that answers `train_step` with a value and a forged state of its arguments."""
    return cell(
        f"""
        from circuits.grading import worker
        state = {after}
        worker._state = lambda value: (tuple(state), {{}})
        return {value}
        """,
        "", "train_step", "model, tokens, optimizer",
    )


@attacks(
    Attack("arguments of another shape", train_reply("[model, torch.zeros(9, 9, 9), optimizer.state_dict()]")),
    Attack("arguments of another type", train_reply("['model', {'a': 1}, 7]")),
    Attack("a model of another size", train_reply("[Transformer(Config(9, 9, 2)), tokens, {}]")),
    Attack(
        "an optimizer's state that does not fit",
        train_reply("[model, tokens, {'state': {0: {'exp_avg': torch.zeros(10**6)}}, 'param_groups': []}]"),
    ),
    Attack(
        "an optimizer's state under strange names",
        train_reply("[model, tokens, {'state': {-1: {'__class__': 1.0}, 10**9: {}}, 'param_groups': None}]"),
    ),
    Attack("a model that is not a number", train_reply(
        "[[p.data.fill_(float('nan')) for p in model.parameters()] and model, tokens * 0, {}]", "float('nan')")),
    Attack("fewer arguments than were sent", {"train_step": FORGE + textwrap.dedent("""
        def train_step(model, tokens, optimizer):
            reply("0.0", more=',["after",{"tuple":[{"tuple":[]},{"dict":[]}]}]')
            os._exit(0)
    """)}),
    Attack("what becomes of the arguments is no tuple", {"train_step": FORGE + textwrap.dedent("""
        def train_step(model, tokens, optimizer):
            reply("0.0", more=',["after",{"dict":[[0,1]]}]')
            os._exit(0)
    """)}),
)
def test_forged_states_of_the_arguments_gain_nothing(grader, attack):
    run(grader, attack)


def test_changing_the_arguments_makes_no_wrong_answer_right(grader):
    """The checks know what they want before an answer can touch what they want it of."""
    cells = {
        **cell("tokens.zero_()\ntokens.resize_(0)\nreturn torch.zeros(d_vocab, d_vocab, dtype=torch.long)"),
        **cell("counts.zero_()\nreturn torch.tensor(float('nan'))", "", "conditional_entropy", "counts"),
        **cell(
            "with torch.no_grad():\n    for p in model.parameters(): p.zero_()\nreturn list(range(k))",
            "", "furthest_tokens", "model, counts, k",
        ),
        **cell(
            "with torch.no_grad():\n    for p in model.parameters(): p.zero_()\n"
            "R.zero_()\nreturn model",
            "", "rotate_residual", "model, R",
        ),
    }
    graded = assail(grader, cells, spoils=False)
    assert not any(points(graded)[name] for name in cells), points(graded)


def test_a_loss_out_of_thin_air_is_worth_nothing(grader):
    """A loss that "falls" because the first one was made up."""
    for lie in ("1e9", "float('inf')"):
        graded = assail(grader, cell(f"return {lie}", "", "train_step", "model, tokens, optimizer"), False)
        assert points(graded)["train_step"] == 0


# Keeping the grader busy: small messages that take long to read -----------------------------


@attacks(
    forged("numbers that all have the same hash", """
        same = 2**61 - 1
        reply('{"set":[' + ",".join(str(k * same) for k in range(1, 60_001)) + ']}')
        os._exit(0)
    """),
    forged("keys that all have the same hash", """
        same = 2**61 - 1
        reply('{"dict":[' + ",".join(f"[{k * same},0]" for k in range(1, 60_001)) + ']}')
        os._exit(0)
    """),
    forged("a large tensor, named a thousand times", """
        again = ",".join(['["a",{"tensor":["0",false]}]'] * 1000)
        reply('{"dict":[' + again + ']}', save({"0": torch.zeros(100 * 2**20, dtype=torch.uint8)}))
        os._exit(0)
    """),
    forged("a hundred deep models", """
        from circuits.grading.wire import pack
        packed = pack(Transformer(Config(1, 1, n_layers=64, n_heads=1, d_head=1, n_ctx=1)))
        n, _ = struct.unpack_from(">QQ", packed)
        one = json.dumps(json.loads(packed[16 : 16 + n])[0][0], separators=(",", ":"))
        reply("1", packed[16 + n :], models="[" + ",".join([one] * (10**6 // len(one))) + "]")
        os._exit(0)
    """),
    forged("hundreds of thousands of tensors of nothing", """
        entry = '"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
        head = ("{" + ",".join(entry % i for i in range(300_000)) + "}").encode()
        reply('1', struct.pack("<Q", len(head)) + head)
        os._exit(0)
    """),
)
def test_reading_a_small_message_takes_no_long_time(grader, attack):
    attack.limit = 25
    run(grader, attack)


def test_the_other_end_of_the_connection_cannot_be_kept_open(grader):
    """A socket that is sent through itself stays open when its process is dead: who then writes to
    it waits for ever, if nobody sees to it."""
    dies = FORGE + textwrap.dedent(
        """
        put(frame(('{"dict":[["ticket","%s"]]}' % ticket()).encode()))
        socket.send_fds(socket.socket(fileno=os.dup(connection())), [b"x"], [connection()])
        os._exit(0)
        """
    )
    cells = {"bigram_counts": dies, "bigram_log_probs": "#" * 3_000_000}
    run(grader, Attack("a socket through itself", cells))


def test_what_a_submission_leaves_in_memory_goes_with_it(grader):
    """A hundred bytes a name, a kilobyte a class: it must be given back before the next one."""
    attack = forged("types", """
        reply('{"list":[' + ",".join(['{"unsendable":"a"}'] * 100_000) + ']}')
        os._exit(0)
    """)

    def megabytes() -> float:
        pages = int(Path(f"/proc/{grader.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    check_neighbour(grader)
    run(grader, attack)
    before = megabytes()
    for _ in range(2):
        run(grader, attack)
    assert megabytes() - before < 150, f"{megabytes() - before:.0f} MB kept of two submissions"


# Processes, the kernel, the machine ---------------------------------------------------------


@attacks(
    probe("new processes", tries(
        "os.fork()", "os.forkpty()", "os.posix_spawn('/bin/true', ['true'], {})", "os.system('true') or 1",
        "subprocess.run(['/bin/true'])", "subprocess.run([__import__('sys').executable, '-c', ''])",
        "__import__('multiprocessing').get_context('fork').Process(target=print).start()",
        "libc.fork()", "libc.syscall(56, 17, 0, 0, 0, 0)", "libc.syscall(435, b'\\0' * 88, 88)",
    ).replace("os.system('true') or 1", "-1 if os.system('true') else 1")),
    probe("a fork bomb, of fifty", """
        import os
        for _ in range(50):
            try:
                if os.fork() == 0: os._exit(0)
                found.append("fork")
            except OSError: pass
    """),
    probe("other programs", tries(
        "os.execv('/bin/sh', ['sh'])", "os.execv('/usr/bin/cat', ['cat'])",
        "os.execve(__import__('sys').executable, ['python'], {})",
    )),
    probe("other processes' memory", tries(
        "libc.ptrace(16, 1, 0, 0)", "libc.ptrace(16, 2, 0, 0)", "libc.ptrace(0, 0, 0, 0)",
        "libc.process_vm_readv(1, 0, 0, 0, 0, 0)", "libc.process_vm_writev(2, 0, 0, 0, 0, 0)",
        "os.pidfd_open(1)", "os.pidfd_open(2)", "libc.syscall(438, 3, 0, 0)",
    )),
    probe("namespaces and mounts", tries(
        "libc.unshare(0x10000000)", "libc.unshare(0x00020000)", "libc.unshare(0)", "libc.setns(3, 0)",
        "libc.mount(b'none', b'/tmp', b'tmpfs', 0, 0)", "libc.umount2(b'/tmp', 2)", "os.chroot('/tmp')",
        "libc.mount(0, b'/', 0, 32 | 4096, 0)", "libc.syscall(155, b'/', b'/tmp')",
        "libc.syscall(428, -100, b'/', 0)", "libc.syscall(430, b'tmpfs', 0)",
    )),
    probe("the kernel's larger doors", tries(
        "libc.syscall(321, 0, 0, 0)", "libc.syscall(298, 0, 0, -1, -1, 0)", "libc.syscall(323, 1)",
        "libc.syscall(425, 8, b'\\0' * 120)", "libc.syscall(250, 0, -3, 0)", "os.memfd_create('x')",
        "libc.syscall(304, -100, b'\\0' * 16, 0)", "libc.personality(0x0040000)", "libc.syscall(103, 3, 0, 0)",
        "libc.syscall(29, 0, 4096, 0o1600)", "libc.syscall(240, b'x', 66, 0o600, 0)",
        "libc.syscall(169, 0, 0, 0, 0)", "libc.iopl(3)", "libc.syscall(447, 0)",
    ), marks=[pytest.mark.skipif(not X86_64, reason="the numbers are those of x86-64")]),
    probe("the network", tries(
        "socket.socket()", "socket.socket(socket.AF_UNIX)", "socket.socketpair()",
        "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)", "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
        "socket.create_connection(('127.0.0.1', 8888), 1)", "socket.create_connection(('1.1.1.1', 53), 1)",
        "socket.create_server(('', 0))", "socket.getaddrinfo('example.org', 80)",
    )),
    probe("privileges", tries(
        "os.setuid(0)", "os.setgid(0)", "os.setgroups([0])", "os.chown('/tmp', 1, 1)", "os.nice(-5)",
        "os.sethostname('x')" if hasattr(os, "sethostname") else "libc.sethostname(b'x', 1)",
        "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))",
        "__import__('resource').setrlimit(__import__('resource').RLIMIT_AS, (-1, -1))",
        "__import__('resource').setrlimit(__import__('resource').RLIMIT_NOFILE, (4096, 4096))",
        "__import__('resource').setrlimit(__import__('resource').RLIMIT_CPU, (9999, 9999))",
        "os.mknod('/tmp/disk', 0o60666, os.makedev(8, 0))", "libc.settimeofday(b'\\0' * 16, 0)",
    )),
    Attack("a system call of 32 bits", cell("""
        import ctypes, mmap
        # mov eax, 310 (unshare); mov ebx, 0x400 (CLONE_FILES: harmless); int 0x80; ret
        code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        code.write(bytes.fromhex("53 b836010000 bb00040000 cd80 5b c3"))
        at = ctypes.addressof(ctypes.c_char.from_buffer(code))
        return "ESCAPED" if ctypes.CFUNCTYPE(ctypes.c_int)(at)() == 0 else "contained"
    """), marks=[pytest.mark.skipif(not X86_64, reason="machine code of x86-64")]),
    Attack("a system call of x32", cell("""
        import ctypes
        got = ctypes.CDLL(None, use_errno=True).syscall(0x40000000 + 272, 0x400)
        return "ESCAPED" if got == 0 else "contained"
    """), marks=[pytest.mark.skipif(not X86_64, reason="x86-64 has it")]),
    Attack("killing the first process and the one that keeps the room open", cell("""
        import os, signal
        for pid in (1, 2):
            for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGKILL):
                try: os.kill(pid, number)
                except OSError: pass
        return "contained"
    """)),
    Attack("killing everything in sight", cell("import os\nos.kill(-1, 9)\nreturn 'contained'")),
    probe("signals to processes by number", """
        import os
        own = os.getpid()
        for pid in range(3, 5000):
            if pid == own: continue
            try: os.kill(pid, 0); found.append(pid)
            except OSError: pass
    """),
)
def test_the_machine_is_out_of_reach(grader, attack):
    run(grader, attack)


@pytest.mark.parametrize("number", ["SIGALRM", "SIGPROF", "SIGTERM", "SIGSTOP", "SIGKILL"])
@pytest.mark.parametrize("target", ["os.kill(0, number)"])
def test_signals_to_the_own_group_reach_no_other_process(grader, number, target):
    """`kill(0)` is for every process of the group, in whichever room: the grader's own must not be
    among them. (`os.getppid()` is 0 in a room, so whoever kills his parent does this.) SIGALRM is
    the worst: it ends the warm process, and the grader takes it for a time limit."""
    body = f"""
    import os, signal
    number = signal.{number}
    if number not in (signal.SIGKILL, signal.SIGSTOP): signal.signal(number, signal.SIG_IGN)
    {target}
    return "contained"
    """
    run(grader, Attack("kill(0)", cell(body)))


def test_who_cannot_be_graded_for_want_of_a_sandbox_gets_no_zero(grader):
    """If the warm process dies, the next submission is graded by a new one, or is an error that
    the instructor sees: zero points are for wrong answers."""
    check_neighbour(grader)
    try:
        (warm,) = descendants(grader.process.pid)
        os.kill(warm, 9)
        graded = grader.grade(Job(CHAPTER.name, cells_of(HONEST), seed=7, root=ROOT))
        assert graded.error or graded.points == sum(CHAPTER.exercises[name] for name in HONEST)
    finally:
        grader.close()


# Resources ----------------------------------------------------------------------------------


@attacks(
    probe("filling the disk", """
        import os
        total = 0
        for place in ("/tmp", "/", "/dev", "/var/tmp", "/dev/shm", "/usr/lib"):
            for i in range(300):
                try:
                    with open(os.path.join(place, f"fill{i}"), "wb") as file: total += file.write(bytes(1 << 20))
                except OSError: break
        if total > 65 << 20: found.append(total)
    """),
    probe("one large file", """
        import os
        fd = os.open("/tmp/large", os.O_RDWR | os.O_CREAT)
        for change in (lambda: os.ftruncate(fd, 300 << 20), lambda: os.posix_fallocate(fd, 0, 300 << 20),
                       lambda: os.pwrite(fd, b"x", 300 << 20)):
            try: change(); found.append(os.fstat(fd).st_size)
            except OSError: pass
    """),
    probe("all descriptors", """
        import os
        opened = []
        try:
            while len(opened) < 2000: opened.append(os.open("/dev/null", os.O_RDONLY))
            found.append(len(opened))
        except OSError: pass
        for fd in opened: os.close(fd)
    """),
    Attack("memory, in one piece", cell("return torch.ones(6 * 2**30, dtype=torch.uint8)")),
    Attack("memory, in many pieces", cell("""
        kept = []
        for _ in range(3000): kept.append(bytearray(2 << 20))
        return "ESCAPED"
    """)),
    Attack("memory, whatever may be raised", cell("""
        kept = []
        for _ in range(3000):
            try: kept.append(bytearray(2 << 20))
            except BaseException: return "contained"
        return "ESCAPED"
    """)),
    Attack("two thousand threads", cell("""
        import threading
        threading.stack_size(1 << 16)
        stop = threading.Event()
        try:
            for _ in range(2000): threading.Thread(target=stop.wait, args=(20,), daemon=True).start()
        except RuntimeError: pass
        return "contained"
    """)),
    Attack("threads that compute on after the answer", cell("""
        import threading, time
        def spin():
            end = time.monotonic() + 4
            while time.monotonic() < end: pass
        for _ in range(4): threading.Thread(target=spin, daemon=True).start()
        return "contained"
    """), spoils=True),
    Attack("a flood of output", cell("""
        import os, sys
        for _ in range(100):
            print("x" * 10**6); sys.stderr.write("y" * 10**6); os.write(1, b"z" * 10**6); os.write(2, b"z" * 10**6)
        sys.__stdout__.write("\\x1b[2J"); sys.__stdout__.flush()
        return "contained"
    """)),
    Attack("recursion", cell("return bigram_counts(tokens, d_vocab)")),
    Attack("recursion without a limit", cell("""
        import sys
        sys.setrecursionlimit(10**9)
        def down(n): return down(n + 1) if n < 10**6 else 0
        return [down(0), repr(eval("[" * 90 + "]" * 90))] and max([1], key=lambda x: down(0))
    """)),
    Attack("the end, at once", cell("import os\nos._exit(0)")),
    Attack("the end, as soon as the cell runs", {"bigram_counts": "import os\nos._exit(1)"}),
    Attack("a crash", cell("import ctypes\nreturn ctypes.string_at(0)")),
    Attack("an abort", cell("import os\nos.abort()")),
    Attack("sys.exit", cell("import sys\nsys.exit('0')")),
    Attack("an interrupt", cell("raise KeyboardInterrupt")),
    Attack("an end that outlives the end", cell("""
        import atexit, os, sys, threading
        atexit.register(lambda: sys.stdout.write("x"))
        threading.Thread(target=lambda: threading.Event().wait(20)).start()
        raise SystemExit
    """)),
    Attack("the connection closed", cell("import os\nos.closerange(0, 1024)\nreturn 1")),
    Attack("code that is no code", {"bigram_counts": "\x00\ud800 def ("}),
    Attack("code that takes long to compile", {
        "bigram_counts": "x = " + "-" * 5000 + "1\ny = " + "(" * 190 + ")" * 190 + "\nz = 9 ** 9 ** 7 if 0 else 1"
    }),
    Attack("a loop in the cell", {"bigram_counts": "i = 0\nwhile i < 10**12:\n    i += 1"}),
    Attack("a loop that catches everything", cell("""
        import time
        end = time.monotonic() + 40
        while time.monotonic() < end:
            try:
                while time.monotonic() < end: pass
            except BaseException: pass
    """)),
    Attack("sleeping, deaf to every signal", cell("""
        import signal, time
        for number in range(1, 65):
            try: signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError): pass
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
        signal.setitimer(signal.ITIMER_REAL, 0)
        time.sleep(40)
    """)),
)
def test_what_is_used_up_is_its_own(grader, attack):
    run(grader, attack)


# Telling what it was given ------------------------------------------------------------------

# The word is put together where it is used: a message may quote the line of an answer that raised.
TELL = """
def told(W_E):
    return "KAEL"[::-1] + "".join(c for c in str(W_E.flatten().tolist()) if c.isdigit())[:40]
"""


@pytest.mark.parametrize(
    "body",
    [
        "raise ValueError(told(W_E))",
        "raise type(told(W_E), (Exception,), {})('x')",
        "raise type(told(W_E), (ValueError,), {'__module__': 'builtins'})('x')",
        "raise NotImplementedError(told(W_E))",
        "raise MemoryError(told(W_E))",
        "raise SystemExit(told(W_E))",
        "raise KeyError(told(W_E)) from RuntimeError(told(W_E))",
        "raise ExceptionGroup(told(W_E), [ValueError(told(W_E))])",
        "error = ValueError()\nerror.add_note(told(W_E))\nraise error",
        "raise SyntaxError(told(W_E), (told(W_E), 1, 1, told(W_E)))",
        "return type(told(W_E), (), {})()",
        "return {told(W_E): told(W_E)}",
        "return [told(W_E)]",
        "import warnings\nwarnings.warn(told(W_E))\nprint(told(W_E))\nraise ValueError",
        "import linecache\nlinecache.cache['<direct_path>'] = (1, None, [told(W_E)] * 99, '')\nraise ValueError",
        "open('/tmp/told', 'w').write(told(W_E))\nraise ValueError",
        "exec(compile(f'def direct_path(): raise ValueError\\ndirect_path()', told(W_E), 'exec'))",
    ],
)
def test_what_an_answer_was_given_comes_out_in_no_message(grader, body):
    cells = {**cell(body, TELL, "direct_path", "W_E, W_U")}
    graded = grade(grader, cells)
    assert points(graded)["direct_path"] == 0
    assert not [text for text in messages(graded) if "LEAK" in text], messages(graded)
    assert not any(result.printed for result in graded.results)


def test_nothing_is_remembered_from_one_submission_to_the_next(grader):
    """Not in files, not in modules, not in the process that all workers come from."""
    write = """
    import builtins, os, sys, torch
    builtins.remembered = sys.remembered = torch.remembered = 1
    os.environ["REMEMBERED"] = "1"
    for place in ("/tmp", "/dev", "/"):
        try: open(os.path.join(place, "remembered"), "w").close()
        except OSError: pass
    return "contained"
    """
    read = """
    import builtins, os, sys, torch
    found += [m for m in (builtins, sys, torch) if hasattr(m, "remembered")]
    found += [p for p in ("/tmp/remembered", "/dev/remembered", "/remembered") if os.path.exists(p)]
    found += [n for n in os.environ if n == "REMEMBERED"] + os.listdir("/tmp")
    venv = [p.split("/")[2] for p in sys.path if p.startswith("/tmp/")]  # Python itself may live there
    found = [f for f in found if f not in venv]
    """
    run(grader, Attack("write", cell(write)))
    run(grader, probe("read", read))


# Harm to who reads the report ---------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        "'<script>alert(1)</script><img src=x onerror=alert(1)>'",
        "'\\x1b[2J\\x1b]0;owned\\x07\\r\\n\\0'",
        "'\\u202e\\u2066\\u200b\\ufeff\\ud800\\U000e0041'",
        "'`' * 59",
        "'` <svg onload=alert(1)> `'",
        "{'\\x1b[31m<script>': '<script>'}",
        "type('<script>\\x1b[31m\\u202e', (), {})()",
        "type('x' * 100000, (), {})()",
        "['<script>' * 1000, '\\x1b']",
    ],
)
@pytest.mark.parametrize("exercise", ["bigram_counts", "positions_that_matter"])
def test_what_is_returned_does_no_harm_to_a_page_or_a_terminal(grader, exercise, value):
    graded = grade(grader, cell(f"return {value}", "", exercise, "*_"))
    check_messages(graded)
    assert points(graded)[exercise] == 0


@pytest.mark.parametrize(
    "code",
    [
        "raise type('<script>\\x1b[31m', (Exception,), {})('<script>\\x1b')",
        "raise ValueError  # <script>alert(1)</script> \x1b[2J \u202e \u0007",
        "raise ValueError('`<script>`\\n' * 1000)",
        "raise ValueError  # " + "x" * 5000,
    ],
)
def test_what_is_raised_does_no_harm_to_a_page_or_a_terminal(grader, code):
    """Also from the cell itself, whose line a message quotes."""
    for cells in (cell(code), {"bigram_counts": code}):
        graded = grade(grader, cells)
        check_messages(graded)
        assert points(graded)["bigram_counts"] == 0


def test_a_report_escapes_whatever_comes():
    evil = "</div><script>alert('`')</script>`<b>`"
    result = Result("x", [CheckResult(evil, 1, False, evil)], evil, evil)
    page = Report(result, graded=True, unsandboxed=evil).html()
    assert "<script" not in page and "<b>`" not in page


@attacks(
    Attack("a hundred megabytes for a list of ids", cell(
        "return torch.ones(100 << 20, dtype=torch.uint8)", exercise="top_next", args="model, token, k"
    )),
    Attack("a large tensor, a thousand times", cell("return [torch.zeros(12 << 20)] * 1000")),
    Attack("one weight of a deep model, thousands of times", cell("""
        from utils import Config, Transformer
        deep = Transformer(Config(d_vocab=50, d_model=64, n_layers=64, n_heads=2, d_head=32, n_ctx=16))
        return [deep, [deep.W_U] * 9000]
    """)),
    Attack("thousands of keys with one hash", cell("""
        same = [k * (2**61 - 1) for k in range(1, 9990)]
        return {(k,): 1 for k in same}
    """)),
    Attack("a list of lists of lists", cell("return [[[0]] * 100] * 10000")),
    Attack("a word of megabytes", cell("return 'x' * (3 << 20)")),
)
def test_what_comes_back_is_bounded_by_what_the_exercise_can_need(grader, attack):
    """It is refused before it is used, if the worker has not run out of time or memory over it."""
    graded = run(grader, attack)
    (name,) = attack.cells
    told = next(r for r in graded.results if r.exercise == name).checks[0].message
    assert re.search("returned far more data than any check asks for|had not finished|more memory than|could be read", told)


# Folders and names --------------------------------------------------------------------------


def hand_in(root: Path, student: str = "eve") -> Path:
    """A folder as it should be; returns it."""
    folder = root / student / CHAPTER.name
    folder.mkdir(parents=True)
    (folder / CHAPTER.notebook.name).write_bytes(CHAPTER.notebook.read_bytes())
    return folder


def check_refused(root: Path, student: str = "eve") -> str:
    start = time.monotonic()
    with pytest.raises(submissions.Refused) as refusal:
        submissions.read(root, student, CHAPTER)
    text = str(refusal.value)
    assert time.monotonic() - start < 300  # it does not hang
    assert text.isprintable() and 0 < len(text) < 300 and SECRET not in text
    return text


def _replace(name: str, make):
    def do(root: Path):
        file = hand_in(root) / name
        file.unlink(missing_ok=True)
        make(file)

    return do


def _elsewhere(root: Path) -> Path:
    """A neighbour's submission, or something of the instructor's."""
    file = hand_in(root, "ada") / CHAPTER.notebook.name
    return file


def _sparse(file: Path) -> None:
    with open(file, "wb") as opened:
        opened.truncate(1 << 40)


def _linked_folder(root: Path) -> None:
    _elsewhere(root)
    (root / "eve").mkdir()
    (root / "eve" / CHAPTER.name).symlink_to(root / "ada" / CHAPTER.name)


def _linked_student(root: Path) -> None:
    _elsewhere(root)
    (root / "eve").symlink_to(root / "ada")


def _flood(root: Path) -> None:
    folder = hand_in(root)
    for i in range(3000):
        (folder / f"{i}.txt").touch()


def _deep(root: Path) -> None:
    """Deeper than a path may be long."""
    folder = hand_in(root)
    here = os.open(folder, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=here)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def _file_for_folder(root: Path) -> None:
    (root / "eve").mkdir()
    (root / "eve" / CHAPTER.name).write_text("x")


def _secret_as_time(file: Path) -> None:
    secret = file.parents[2] / "secret"
    secret.write_text(SECRET)
    os.link(secret, file)


NOTEBOOK = CHAPTER.notebook.name
FOLDERS = {
    "the notebook is a link to a neighbour's": _replace(
        NOTEBOOK, lambda f: f.symlink_to(_elsewhere(f.parents[2]))),
    "the notebook is another name of a neighbour's": _replace(
        NOTEBOOK, lambda f: os.link(_elsewhere(f.parents[2]), f)),
    "the notebook is a link to /dev/zero": _replace(NOTEBOOK, lambda f: f.symlink_to("/dev/zero")),
    "the notebook is a link to nothing": _replace(NOTEBOOK, lambda f: f.symlink_to("nothing")),
    "the notebook is a link to itself": _replace(NOTEBOOK, lambda f: f.symlink_to(f.name)),
    "the notebook is a pipe": _replace(NOTEBOOK, os.mkfifo),
    "the notebook is a socket": _replace(NOTEBOOK, lambda f: os.mknod(f, 0o140600)),
    "the notebook is a folder": _replace(NOTEBOOK, lambda f: f.mkdir()),
    "the notebook is a terabyte of nothing": _replace(NOTEBOOK, _sparse),
    "the notebook is empty": _replace(NOTEBOOK, lambda f: f.touch()),
    "the notebook is missing, and another has a strange name": _replace(
        NOTEBOOK, lambda f: f.with_name("\x1b[31m\u202e\n.ipynb").touch()),
    "the notebook is brackets": _replace(NOTEBOOK, lambda f: f.write_text("[" * 10**6)),
    "the notebook is digits": _replace(NOTEBOOK, lambda f: f.write_text("9" * 10**6)),
    "the notebook's format is a long story": _replace(
        NOTEBOOK, lambda f: f.write_text(json.dumps({"nbformat": "\x1b" * 10**5, "cells": []}))),
    "the time is a pipe": _replace("timestamp.txt", os.mkfifo),
    "the time is a link": _replace("timestamp.txt", lambda f: f.symlink_to("/etc/passwd")),
    "the time is a terabyte": _replace("timestamp.txt", _sparse),
    "the time is a folder": _replace("timestamp.txt", lambda f: f.mkdir()),
    "the time is the secret by another name": _replace("timestamp.txt", _secret_as_time),
    "another file is a pipe": _replace("notes.txt", os.mkfifo),
    "another file is a link to the whole machine": _replace("data", lambda f: f.symlink_to("/")),
    "the folder is a link": _linked_folder,
    "the student's folder is a link": _linked_student,
    "the folder is a file": _file_for_folder,
    "there is no folder": lambda root: None,
    "three thousand files": _flood,
    "folders without end": _deep,
}


@pytest.mark.parametrize("make", FOLDERS.values(), ids=FOLDERS.keys())
def test_a_strange_folder_is_refused_in_one_line_and_at_once(tmp_path, make):
    make(tmp_path)
    check_refused(tmp_path)


@pytest.mark.parametrize(
    "student",
    ["*", "?", "../eve", "..", ".", "", "/", "eve/../ada", "-rf", "--help", " eve", "eve\n", "eve\x1b[2J",
     "\u202eeve", "eve\0", "a" * 101, "$(true)", "`true`", "eve;true", "eve|true", "~", '"', "<b>",
     "eve\udcff", "e\u200bve"],
)
def test_a_strange_name_is_refused_in_one_line(tmp_path, student):
    with contextlib.suppress(OSError, ValueError):
        hand_in(tmp_path, student)
    check_refused(tmp_path, student)


def test_an_ordinary_folder_is_read(tmp_path):
    """So that the refusals above are for what they say."""
    hand_in(tmp_path)
    assert [cell.exercise for cell in submissions.read(tmp_path, "eve", CHAPTER)] == list(CHAPTER.exercises)


# And after all of that ----------------------------------------------------------------------


def test_an_honest_submission_still_gets_full_marks(grader):
    assert points(grade(grader, ANSWERS)) == CHAPTER.exercises
    check_nothing_survives(grader)
