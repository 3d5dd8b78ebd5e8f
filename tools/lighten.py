"""Leave out of a stylesheet what no page uses: most of Bootstrap."""
import re

COMMENT = re.compile(r'/\*.*?\*/', re.S)
NAMES = re.compile(r'[.#](-?[A-Za-z_][\w-]*)')
CONDITIONS = ('@media', '@supports', '@layer')

def blocks(css):
    "The rules of a stylesheet at its top level: (what stands before the brace, what stands inside)."
    depth = start = opened = 0
    for i, sign in enumerate(css):
        if sign == '{':
            depth += 1
            if depth == 1:
                opened = i
        elif sign == '}':
            depth -= 1
            if depth == 0:
                yield css[start:opened].strip(), css[opened + 1:i]
                start = i + 1
        elif sign == ';' and depth == 0:
            start = i + 1        # an @import or @charset

def selectors(head):
    "A rule's selectors. The commas inside `:is(a, b)` do not part them."
    depth, parts = 0, ['']
    for sign in head:
        depth += (sign == '(') - (sign == ')')
        if sign == ',' and depth == 0:
            parts.append('')
        else:
            parts[-1] += sign
    return [part.strip() for part in parts]

def is_used(selector, words):
    "Whether every class and id that a selector asks for is among `words`. What it excludes may be missing."
    asked = re.sub(r':not\([^()]*\)|\[[^]]*\]', '', selector)
    return all(name in words for name in NAMES.findall(asked))

def lighter(css, words):
    "The stylesheet without the rules that apply to nothing. `words`: all classes, ids and names in pages and scripts."
    kept = []
    for head, body in blocks(COMMENT.sub('', css)):
        if head.startswith(CONDITIONS):
            inside = lighter(body, words)
            if inside:
                kept.append(f'{head}{{{inside}}}')
        elif head.startswith('@keyframes') or head.startswith('@-webkit-keyframes'):
            if head.split()[-1] in words:
                kept.append(f'{head}{{{body}}}')
        elif head.startswith('@'):
            kept.append(f'{head}{{{body}}}')
        else:
            used = [selector for selector in selectors(head) if is_used(selector, words)]
            if used:
                kept.append(f'{",".join(used)}{{{body}}}')
    return '\n'.join(kept)
