"""Short templates, one construct or rule each, and the inputs they share."""

INPUTS = {
    "s": "Hello, World", "u": "Grüße 你好 😀", "t": "  two words\t", "e": "", "q": "it's \"<&>\"",
    "i": 7, "n": -3, "f": 2.5, "big": 1e20, "yes": True, "none_value": None, "l": [3, 1, 2],
    "words": ["b", "A", "c", "a"], "mixed": [1, "x", None, 2.0, [1], {"k": 1}], "nothing": [],
    "d": {"b": 1, "a": "x", "items": [1, 2], "keys": None},
    "rows": [{"k": "B", "v": 2, "t": {"y": 1}}, {"k": "a", "v": 1, "t": {"y": 2}}, {"k": "b", "v": 3}],
    "x": "outer",
}


def printed(*expressions):
    return ["{{ " + expression + " }}" for expression in expressions]


SNIPPETS = [
    *printed(
        # values as text
        "[1, 1.0, 1e16, 1.5e-7, -0.0, 100.25, true, none, 'a', \"it's\", ('x',), ()]", "mixed", "d",
        "{'k': 1, 2: [none], true: {}}", "u", "[u, q, '\\n\\t\\x00\\x7f\\u200b\\u00e9\\\\']", "range(3)",
        "range(9, 0, -3)", "d.items()", "d['items']", "d['keys']", "d.keys()", "d.values()|list",
        "namespace(a=1, b='x')", "1e400", "-1e400", "0.1 + 0.2", "1/3", "2**0.5", "1e15", "123456789012345678",
        "'a' 'b' \"c\"", "'\\u00e9\\n\\x41\\101\\q'", "'\\é'", "1_000 + 0x1F + 0b101 + 0o17",
        # arithmetic
        "7 // 2", "-7 // 2", "7 % -3", "-7.5 % 2", "7.5 // -2", "2 ** 10", "2 ** -1", "2 ** 3 ** 2", "7 / 2",
        "6 / 3", "-i ** 2", "+f - -n", "true + 1", "'ab' * 3", "3 * [0]", "-1 * 'x'", "[1] + [2]", "(1,) + (2,)",
        "1 ~ 'x' ~ none ~ 2.0", "'%s is %d or %5.2f%%' % (s, i, f)", "'%(a)s-%(b)05d' % {'a': 1, 'b': 42}",
        "'%r|%-6s|%6s|%x|%o|%e|%+d|%c' % ('q', 'ab', 'cd', 255, 8, 12345.678, 3, 'z')",
        # comparison and logic
        "1 < 2 < 3", "1 < 3 < 2", "1 == 1.0 == true", "'a' < 'b' <= 'b'", "[1, 2] < [1, 3]", "(1, 'a') == (1, 'a')",
        "[1] == (1,)", "{'a': 1, 'b': 2} == {'b': 2, 'a': 1}", "2 in l", "'ell' in s", "'b' in d", "9 not in l",
        "'' in ''", "none in mixed", "1 in d.values()", "('b', 1) in d.items()", "'a' in undefined_thing",
        "not e and 'x' or 'y'", "0 or none", "1 and 'last'", "not not s", "'a' if e", "'a' if e else 'b' if i else 'c'",
        # items and slices
        "l[0] ~ l[-1] ~ l[9]", "u[0] ~ u[2] ~ u[-1]", "u[::-1]", "u[6:8]", "l[::-1]", "l[1:]", "l[:-1]", "l[5:]",
        "s[-5:-1:2]", "range(10)[2:8:3]|list", "range(10)[::-1][0]", "(1, 2, 3)[1:]", "rows[0].t.y", "rows[0]['t']['y']",
        "rows.0.k", "d.missing", "d.missing is defined", "s[1:3][0]", "words[yes]", "d[1]", "'abc'['upper']()",
        # tests
        "[1 is odd, 2 is even, 9 is divisibleby 3, 9 is divisibleby(2), s is string, d is mapping, l is sequence]",
        "[1 is number, true is number, 1.0 is integer, 1 is integer, true is integer, 1.5 is float, true is boolean]",
        "[none is none, e is none, x is defined, y is undefined, true is true, 1 is true, false is false]",
        "[s is iterable, 1 is iterable, d is sequence, none is sequence, 'A' is upper, 'a1' is lower, '1' is lower]",
        "[1 is eq 1, 1 is equalto 2, 1 is ne 2, 3 is gt 2, 3 is lt 2, 2 is ge 2, 2 is le 1, 1 is in l, 1 is not in l]",
        "[range is callable, s is callable, s|safe is escaped, none is sameas none, true is sameas true]",
        "['upper' is filter, 'nope' is filter, 'odd' is test, i is not odd, not i is odd]", "s is not none and s",
        # filters on text
        "t|trim ~ '|'", "t|trim(' s')", "s|upper ~ s|lower ~ s|title ~ s|capitalize", "'ß ŉ ﬁ ǆ'|upper", "'ΑΣ ΣΑΣ. Σ'|lower ~ 'ασ ΑΣ ß'.swapcase()",
        "'İI'|lower", "'they\\'re (bill\\'s) [x]-y'|title", "'they\\'re bill\\'s'.title()", "s|replace('l', 'L', 1)",
        "s|replace('', '-')", "123|replace(2, 'x')", "s|length ~ u|length", "s|list", "s|first ~ s|last", "s|reverse",
        "s|indent", "'a\\n\\nb\\n'|indent(2)", "'a\\n\\nb'|indent('> ', true, true)", "'a b  c-d'|wordcount", "'x'|center(5) ~ '|'",
        "q|e", "q|escape|escape", "q|safe|escape", "(q|e) + '<'", "'<' + (q|safe)", "('<'|safe) ~ '<'", "['<'|e]",
        "('%s'|safe) % '<'", "'<b>'|forceescape", "42|string + '!'", "'%s=%s'|format('a', 1)", "'%(n)s'|format(n=2)",
        # filters on numbers
        "'12'|int + '0x1f'|int(base=16) + 'x'|int(-1) + '3.9'|int + 3.9|int", "''|int ~ none|int(5)", "' 7 '|int",
        "'1.5'|float + 'x'|float(2.0)", "2.5|round ~ ' ' ~ 3.5|round ~ ' ' ~ 2.675|round(2) ~ ' ' ~ 42|round",
        "2.1|round(method='ceil') ~ 2.9|round(method='floor') ~ 1234.5|round(-2)", "-3|abs ~ n|abs ~ -2.5|abs",
        "l|sum ~ rows|sum(attribute='v') ~ [[1], [2]]|sum(start=[])", "l|max ~ l|min ~ words|max ~ words|min(case_sensitive=true)",
        "nothing|max ~ '|' ~ rows|max(attribute='v')",
        # filters on sequences
        "words|sort", "words|sort(case_sensitive=true)", "words|sort(reverse=true)", "rows|sort(attribute='k')|map(attribute='v')|list",
        "rows|sort(attribute='k,v', reverse=true)|map(attribute='v')|join", "d|dictsort", "{'b': 1, 'A': 2}|dictsort(true)",
        "{'b': 1, 'A': 2}|dictsort(by='value', reverse=true)", "l|join(', ')", "rows|join('/', attribute='k')", "mixed|join('|')",
        "['a', 'A', 'b']|unique|list", "['a', 'A', 'b']|unique(true)|list", "l|reverse|list", "d|list", "d|length", "d|first",
        "d|items|list", "l|batch(2)|list", "l|batch(2, 'x')|list", "range(7)|slice(3)|list", "range(7)|slice(3, 'z')|list",
        "words|map('upper')|list", "words|map('replace', 'a', 'z')|join", "rows|map(attribute='t.y', default=0)|list",
        "rows|map(attribute='t')|list", "l|select('odd')|list", "mixed|select|list", "mixed|reject('string')|list",
        "rows|selectattr('k', 'equalto', 'a')|list", "rows|selectattr('t')|list|length", "rows|rejectattr('v', 'gt', 1)|list",
        "rows|selectattr('t', 'defined')|map(attribute='k')|join", "l|select('in', [1, 2])|list", "rows|groupby('k')",
        "rows|groupby('t.y', default=9)|map(attribute='grouper')|list", "rows|groupby('v')|map(attribute='list')|list",
        "nothing|first is defined", "s|attr('upper')() if false else 'x'", "d|attr('b') is defined",
        "missing|default('d') ~ e|default('x') ~ e|default('x', true) ~ none_value|d('n', boolean=true) ~ none_value|d('n')",
        # tojson
        "mixed|tojson", "d|tojson(indent=2)", "q|tojson", "u|tojson", "u|tojson(ensure_ascii=true)", "d|tojson(sort_keys=true)",
        "d|tojson(separators=(',', ':'))", "[[], {}, [1]]|tojson(indent=1)", "{1: 2, none: 3, true: 4, 1.5: 5}|tojson",
        "'\\x00\\x1f\\x7f\\b\\f\\n\\r\\t\\\\\"/'|tojson", "[1e400, -1e400, 1e16, 0.1]|tojson", "(1, (2,))|tojson", "(q|safe)|tojson",
        "d|tojson(indent='--')", "d|tojson(indent=0)",
        # methods
        "s.split(', ')", "' a  b '.split()", "' a  b c '.split(none, 1)", "'a,b,,c'.split(',', 1)", "'a,b,,c'.rsplit(',', 2)",
        "' a  b c '.rsplit(none, 1)", "'a\\nb\\r\\nc\\n'.splitlines()", "'a\\nb'.splitlines(true)", "'xxaxx'.strip('x') ~ 'xay'.lstrip('xa')",
        "t.strip() ~ '|' ~ t.rstrip() ~ '|' ~ t.lstrip()", "s.startswith('He') and s.endswith(('x', 'ld'))", "s.startswith('l', 2)",
        "s.find('o') ~ s.find('o', 5) ~ s.rfind('o') ~ s.find('z') ~ u.find('好')", "s.index('W') ~ s.count('l')", "'a-b'.partition('-')",
        "'a-b-c'.rpartition('-')", "'-'.join(words)", "'ab'.join('xyz')", "'prefix'.removeprefix('pre').removesuffix('x')",
        "'7'.zfill(3) ~ '-7'.zfill(4) ~ 'x'.rjust(3, '.') ~ 'x'.ljust(3, '.') ~ 'x'.center(4, '*')", "'aBc'.swapcase() ~ 'aBC dE'.capitalize()",
        "[ '12'.isdigit(), 'a1'.isalnum(), 'ab'.isalpha(), ' '.isspace(), 'Ab'.istitle(), 'AB'.isupper(), 'ab'.islower(), '½'.isnumeric() ]",
        "'{} {}'.format(1, 'x') ~ '{1}{0}{k}'.format(1, 2, k=3) ~ '{:>5}|{:<5}|{:^5}|{:05d}|{:.2f}|{!r}'.format('a', 'b', 'c', 7, 2.5, 'q')",
        "'{0.k}{0[v]}'.format(rows[0])", "d.get('b') ~ d.get('z') ~ d.get('z', 5)", "d.items()|list", "d.copy() == d", "l.index(1) ~ l.count(3)",
        "'a\\tb'.split('\\t')", "('a' ~ '\\n').strip('\\n').strip()", "dict(a=1, **{'b': 2})", "dict([('x', 1)])",
        # undefined
        "missing", "missing|length", "missing|list", "missing|upper ~ '|'", "missing ~ 'x'", "missing == other", "missing or 'or'",
        "missing|join(',')", "not missing", "[missing]", "missing is defined and missing.x", "d.missing|default('z')", "missing|tojson",
        "missing.attribute", "missing['item']", "missing + 1", "missing()", "missing < 1", "-missing", "missing|int", "d.no.deeper", "l[9].x",
        # refusals
        "raise_exception('out ' ~ 1)", "l.append(4)", "d.update({})", "d.pop('b')", "l.append", "s.nope()", "1 + 'x'", "'x' + 1",
        "[1] + 'x'", "1 < 'a'", "none + 1", "1 / 0", "1 % 0", "1 // 0.0", "range(100001)|length", "range(0, 10, 0)", "s|nope", "s is nope",
        "d[[1]]", "{[1]: 2}", "1|length", "none|list", "s.split('')", "'%d' % 'x'", "'%s %s' % 'x'", "'%s' % (1, 2)", "s()", "s|join(1, 2, 3)",
        "range('a')", "[3, 'a']|sort", "d|tojson(nope=1)", "'a'.replace('b')", "'{}'.format()", "'{a}'.format()", "s.index('zz')", "none|items|list",
        "(1, 2", "1 +", "'open", "{1: 2", "a b", "1 2", "[1, 2", "s|", "s.", "s is", "loop.index", "x is string is defined", "f(**{}, 1)", "f(a=1, 2)",
        "@", "a ? b : c", "x.__class__", "x.__class__()", "''.__class__.__mro__", "{'a': 1}.__len__", "range.__globals__", "'x'['__class__']",
        "'\\x4'", "1__0", "strftime_now('%Y') | length", "strftime_now(1)",
    ),
    # loops
    "{% for a in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }};{% endfor %}",
    "{% for a in l %}{{ loop.previtem }}<{{ a }}>{{ loop.nextitem }} {% endfor %}",
    "{% for a in l %}{{ loop.cycle('x', 'y') }}{{ loop.changed(a > 1) }}{{ loop.depth }}{% endfor %}",
    "{% for a in l if a > 1 %}{{ a }}/{{ loop.length }}{{ ',' if not loop.last }}{% else %}none{% endfor %}",
    "{% for a in nothing %}{{ a }}{% else %}empty{% endfor %}", "{% for a in missing %}x{% else %}empty{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k, v in d|items %}{{ k }}={{ v }};{% endfor %}",
    "{% for (a, b), c in [((1, 2), 3)] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for a, b in [(1, 2, 3)] %}{% endfor %}",
    "{% for a, b in [1] %}{% endfor %}", "{% for c in u %}{{ c }}.{% endfor %}", "{% for k in d %}{{ k }}{% endfor %}",
    "{% for a in l %}{% if a == 1 %}{% continue %}{% endif %}{{ a }}{% endfor %}", "{% for a in l %}{% if a == 1 %}{% break %}{% endif %}{{ a }}{% endfor %}",
    "{% for a in l %}{% break %}{% else %}broken{% endfor %}", "{% for a in l %}{% for b in l %}{% if b == a %}{% break %}{% endif %}{{ b }}{% endfor %};{% endfor %}",
    "{% for a in [[1, [2, [3]]], 4] recursive %}{{ loop(a) if a is iterable else a }}{{ loop.depth }}{% endfor %}",
    "{% set ns = namespace(n=0) %}{% for a in l if ns.n < 2 %}{% set ns.n = ns.n + 1 %}{{ a }}{% endfor %}",
    "{% set ns = namespace(n=0) %}{% for a in l %}{% set ns.n = ns.n + a %}{% endfor %}{{ ns.n }}{{ ns.missing }}",
    "{% set g = l|select('odd') %}{{ g|list }}{{ g|list }}", "{% set g = l|map('string') %}{% for a in g %}{{ a }}{% break %}{% endfor %}{{ g|list }}",
    "{% set g = l|map('nope') %}fine", "{% for a in l %}{% set x = a %}{% endfor %}{{ x }}", "{% for a in range(2) %}{{ loop }}{% endfor %}",
    "{% for x in 5 %}{% endfor %}", "{% for loop in l %}{% endfor %}", "{% for a in l recursive %}{{ loop.nope }}{% endfor %}",
    # assignment and scope
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a = b = 1 %}", "{% set a.b = 1 %}", "{% set true = 1 %}", "{% set x = x ~ '!' %}{{ x }}",
    "{% set y %}a {{ x }}{% endset %}{{ y|upper }}", "{% set y | upper | replace('A', 'b') %}a{% endset %}{{ y }}",
    "{% if true %}{% set y = 1 %}{% endif %}{{ y }}", "{% with a = 1, b = x %}{{ a }}{{ b }}{% set x = 2 %}{% endwith %}{{ x }}",
    "{% for a in l %}{{ x }}{% endfor %}{% set x = 1 %}", "{% set y %}{{ x }}{% endset %}{% set x = 1 %}{{ y }}{{ x }}",
    "{% for a in l %}{{ x }}{% set x = a %}{{ x }}{% endfor %}", "{% if nothing %}{% set x = 1 %}{% endif %}{% for a in l %}{{ x }}{% endfor %}",
    "{% filter upper %}a{{ x }}{% endfilter %}", "{% filter length %}abc{% endfilter %}", "{% print 1, x %}", "{% generation %}{% set x = 1 %}{{ x }}{% endgeneration %}{{ x }}",
    # macros
    "{% macro m(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }} {{ m(1, c=5) }} {{ m(b=7, a=0) }} {{ m() }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(z=2) }}",
    "{% macro m(a) %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, z=4) }}", "{% macro m() %}{{ caller('x') }}{% endmacro %}{% call(v) m() %}<{{ v }}{{ x }}>{% endcall %}",
    "{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}", "{% macro m() %}{% endmacro %}{% call m() %}x{% endcall %}", "{% macro m(n) %}{{ n }}{{ m(n - 1) if n }}{% endmacro %}{{ m(3) }}",
    "{% macro m() %}{{ y }}{% endmacro %}{% set y = 1 %}{{ m() }}", "{% macro m() %}{{ m }}{% endmacro %}{{ m() }}{{ m is callable }}", "{% for a in l %}{% macro m() %}{{ a }}{% endmacro %}{{ m() }}{% endfor %}",
    "{% macro m(a, a) %}{% endmacro %}", "{% macro m(a=1, b) %}{% endmacro %}", "{% call x %}{% endcall %}", "{% macro m(x) %}{{ x|safe }}{% endmacro %}{{ m('<') ~ '<' }}",
    "{% macro m(a) %}[{{ a }}]{% endmacro %}{{ l|map('string')|map('upper')|join(m('-')) }}", "{% macro m() %}{% for a in l %}{{ a }}{% endfor %}{% endmacro %}{{ m()|length }}",
    # tags and text
    "a\n{% if x %}\nb\n{% endif %}\nc\n", "a\n  {% if x %}\n  b\n  {% endif %}\n  c", "a {%- if x -%} b {%- endif -%} c", "a\n  {%+ if x %}b{% endif +%}\nc",
    "{{ 'a' -}}  \n {{- 'b' }}", "{# gone #}a{#- \n -#} b", "  {# gone #}\na", "{% raw %}{{ x }}{% endraw %}", "{%- raw -%}  {% if %} {%- endraw -%} b", "{% raw %}\n a\n{% endraw %}\nb",
    "x\r\ny\rz\n", "x\n\n", "\n", "", "{{ '{{' }}{{ '%}' }}{{ {'a': {'b': 1}} }}", "{% if x == '%}' %}{% else %}ok{% endif %}", "{{ 1 }}\n{{ 2 }}\n", "#{ x }$", "{ {", "{{ x }", "{% if x %}", "{% endif %}",
    "{% if x %}a{% elif i %}b{% else %}c{% endif %}", "{% if e %}a{% elif nothing %}b{% elif i %}c{% endif %}", "{% if %}{% endif %}", "{% for %}{% endfor %}", "{% unknown %}", "{% if x %}{% endfor %}", "{{ x", "{# open",
    "{% raw %}open", "{% break %}", "{% if false %}{{ x|nope }}{% endif %}ok", "{% if true %}{{ x|nope }}{% endif %}", "{{ x|nope if false else 'ok' }}", "{% if true %}{% for a in nothing %}{{ a|nope }}{% endfor %}{% endif %}",
    "line 1\n{{ x }}\n{{ missing.a }}\n", "line 1\n\n{% if x %}\n{{ 1 + }}\n{% endif %}", "{{ x }}{% set a = 1 %}{{ a }}{% if a %}{% endif %}\n\n{{ 'a\nb' }}{{ )", "{{ {}.x }}{{ {'x': 1}.x }}", "{% set x = [] %}{% if x %}{% elif not x %}e{% endif %}",
    "{%if x%}a{%endif%}", "{%-if x-%} a {%-endif-%}", "{{x}}{{-x-}} {{x}}", "{% if x: %}{% endif %}", "{% set x = 1, %}{{ x }}", "{{ (1,) }}{{ 1, 2 }}", "{{ [1, 2,] }}{{ {'a': 1,} }}", "{{ s.split(sep=',') }}{{ s.split(',', maxsplit=1) }}",
]
