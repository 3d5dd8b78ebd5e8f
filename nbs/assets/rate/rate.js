// "Rate ten films": the reader's stars are folded into two of the book's models, here in the browser. The model of stars
// predicts ratings; the model of likes says which films people like who like the same ones, and orders the list.
// First the mathematics (lesson 08, `fold_in` and `why`), as functions of plain arrays; then the file, the search, the
// address, and the page. A film is its row in the file, `i`; its number at MovieLens stands in the address only.

// ---- Mathematics. A film's row is x, a person's row is w. In the model of stars they are [q_1, ..., q_k, 1] and
// [p_1, ..., p_k, bias]; in the model of likes, factors alone.

// The lower triangular C with C C' = A, for a symmetric positive definite A (rows in one array, n a row).
export function cholesky(A, n) {
  const C = new Float64Array(n * n)
  for (let i = 0; i < n; i++) for (let j = 0; j <= i; j++) {
    let s = A[i * n + j]
    for (let t = 0; t < j; t++) s -= C[i * n + t] * C[j * n + t]
    C[i * n + j] = i === j ? Math.sqrt(s) : s / C[j * n + j]
  }
  return C
}

// The z with C C' z = b: forwards through C, then backwards through C'.
export function solve(C, n, b) {
  const z = Float64Array.from(b)
  for (let i = 0; i < n; i++) {
    for (let t = 0; t < i; t++) z[i] -= C[i * n + t] * z[t]
    z[i] /= C[i * n + i]
  }
  for (let i = n - 1; i >= 0; i--) {
    for (let t = i + 1; t < n; t++) z[i] -= C[t * n + i] * z[t]
    z[i] /= C[i * n + i]
  }
  return z
}

export const dot = (a, b) => { let s = 0; for (let i = 0; i < a.length; i++) s += a[i] * b[i]; return s }

// Fold a person in: (X'X + L) w = X'y + L m, with y_j = value_j - mu - b_j. Without a rating, w = m.
export function foldIn(model, films, values) {
  const n = model.mean.length
  const X = films.map(i => model.x[i])
  const y = films.map((i, j) => values[j] - model.mu - model.bias[i])
  const A = Float64Array.from(model.precision)
  const fromPrior = new Float64Array(n)                                  // L m
  for (let a = 0; a < n; a++) for (let b = 0; b < n; b++) fromPrior[a] += A[a * n + b] * model.mean[b]
  const right = Float64Array.from(fromPrior)
  X.forEach((x, j) => {
    for (let a = 0; a < n; a++) {
      right[a] += x[a] * y[j]
      for (let b = 0; b < n; b++) A[a * n + b] += x[a] * x[b]
    }
  })
  const C = cholesky(A, n)
  return {w: solve(C, n, right), C, X, y, fromPrior}
}

export const predict = (model, fold, i) => model.mu + model.bias[i] + dot(model.x[i], fold.w)

// The standard deviation of a rating around its prediction: w is known up to the covariance noise * A^-1, and a rating
// lies around x . w with the variance `noise`.
export const plusMinus = (model, fold, i) =>
  Math.sqrt(model.noise * (1 + dot(model.x[i], solve(fold.C, fold.w.length, model.x[i]))))

// The stars to expect: the mean of a normal curve around the prediction, cut off at the ends of the scale.
export function expected(model, fold, i) {
  const mean = predict(model.stars, fold.stars, i), deviation = plusMinus(model.stars, fold.stars, i)
  let sum = 0, weights = 0
  for (let z = -4; z <= 4; z += 0.125) {
    const weight = Math.exp(-z * z / 2)
    sum += weight * clamp(model, mean + z * deviation)
    weights += weight
  }
  return sum / weights
}

// Why: w is a sum over the ratings, so x . w is one too. Rating j's share is (x' A^-1 x_j) y_j; the rest is the prior's.
export function shares(model, fold, i) {
  const a = solve(fold.C, fold.w.length, model.x[i])                     // A^-1 x
  return {of: fold.X.map((x, j) => dot(a, x) * fold.y[j]), prior: dot(a, fold.fromPrior)}
}

// The cosine between two films' factors.
export const cosine = (x, z) => dot(x, z) / (Math.sqrt(dot(x, x) * dot(z, z)) || 1)

// A place on the map: a film's distance from the middle film, or a person's factors, along the two directions.
export const place = (model, v, middle) =>
  model.map.axes.map(axis => axis.reduce((s, c, t) => s + c * (v[t] - (middle ? middle[t] : 0)), 0))

// Both models at once: what a person's stars say. Films with `liked` stars or more are what the model of likes knows of
// them. The score that orders the list is in points: 100 for a film that is as good as liked, and some for each star
// above the mean.
export function foldBoth(model, rated) {
  const films = [...rated.keys()], liked = films.filter(i => rated.get(i) >= model.liked)
  const stars = foldIn(model.stars, films, [...rated.values()])
  const likes = foldIn(model.likes, liked, liked.map(() => 1))
  return {films, liked, stars, likes}
}
export const score = (model, fold, i) =>
  100 * (predict(model.likes, fold.likes, i) + model.star_weight * (predict(model.stars, fold.stars, i) - model.stars.mu))

// What each rating adds to a film's score, in points, and what the film gets from anybody.
export function pointsOf(model, fold, i) {
  const stars = shares(model.stars, fold.stars, i), likes = shares(model.likes, fold.likes, i).of
  const like = new Map(fold.liked.map((j, n) => [j, likes[n]]))
  const of = fold.films.map((j, n) => 100 * ((like.get(j) || 0) + model.star_weight * stars.of[n]))
  return {of, anybody: 100 * model.star_weight * (model.stars.bias[i] + stars.prior)}
}

// ---- The file: a line of JSON, then the tables of both models, 8-bit whole numbers times their column's scale.

export function readModel(buffer) {
  const end = new Uint8Array(buffer).indexOf(10)
  const model = JSON.parse(new TextDecoder().decode(buffer.slice(0, end))), n = model.id.length
  const table = new Int8Array(buffer.slice(end + 1)), {stars, likes} = model
  const columns = stars.scale.length + likes.scale.length
  if (table.length !== n * columns) throw new Error('the file is not whole')
  const rows = (from, scale) => model.id.map((_, i) =>
    Float64Array.from(scale, (s, t) => s * table[from + i * scale.length + t]))
  const k = stars.scale.length - 1
  stars.x = rows(0, stars.scale)
  stars.bias = stars.x.map(x => x[k])
  stars.x.forEach(x => { x[k] = 1 })
  likes.x = rows(n * stars.scale.length, likes.scale)
  likes.mu = 0
  likes.bias = likes.x.map(() => 0)
  for (const part of [stars, likes]) part.precision = part.precision.flat()
  model.name = model.title.map((t, i) => `${t} (${model.year[i]})`)
  model.short = model.title.map(t => t.replace(/ \(.*/, ''))
  model.words = model.name.map(wordsOf)
  model.code = new Map(model.id.map((id, i) => [id, i]))
  model.at = stars.x.map(x => place(model, x, model.map.middle))
  model.byCount = model.id.map((_, i) => i).sort((i, j) => model.count[j] - model.count[i])
  return model
}

// ---- The search.

// Letters and digits, without case and accents: what a search compares.
const plain = s => s.normalize('NFD').replace(/[\u0300-\u036f]/g, '').toLowerCase().replace(/[^a-z0-9]+/g, ' ').trim()
const bare = text => text.replace(/^(the|a|an) /, '')
const ROMAN = {ii: '2', iii: '3', iv: '4', v: '5', vi: '6', vii: '7', viii: '8', ix: '9', x: '10'}

// What a title can be found by: its text, its words (Part II also as 2), its words run together, their first letters.
function wordsOf(name) {
  const text = bare(plain(name)), words = plain(name).split(' ')
  return {text, all: [...words, ...words.map(w => ROMAN[w]).filter(Boolean)], joined: text.replaceAll(' ', ''),
    initials: text.split(' ').map(w => w[0]).join('')}
}

// How many letters must be changed, added, left out or swapped to make `a` of `b`, or of what `b` begins with.
function typos(a, b) {
  const rows = [Array.from({length: b.length + 1}, (_, j) => j)]
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      row[j] = Math.min(rows[i - 1][j] + 1, row[j - 1] + 1, rows[i - 1][j - 1] + (a[i - 1] !== b[j - 1]))
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) row[j] = Math.min(row[j], rows[i - 2][j - 2] + 1)
    }
    rows.push(row)
  }
  return Math.min(...rows[a.length])
}

// Films that have every word looked for, those that begin so first, then those with more ratings. If there is none:
// words run together (walle), first letters (lotr), and at last words with a slip (one letter in four or five).
export function search(model, text, n = 8) {
  const wanted = bare(plain(text)), words = wanted.split(' '), joined = wanted.replaceAll(' ', '')
  if (!wanted) return []
  const begins = i => model.words[i].text.startsWith(wanted)
  const near = (w, t) => t.startsWith(w) || w.length > 3 && typos(w, t) <= Math.floor(w.length / 5 + 0.2)
  const ways = [
    i => words.every(w => model.words[i].all.some(t => t.startsWith(w))),
    i => joined.length > 2 && (model.words[i].joined.startsWith(joined) || model.words[i].initials.startsWith(joined)),
    i => words.every(w => model.words[i].all.some(t => near(w, t)))]
  const found = ways.map(way => model.byCount.filter(way)).find(films => films.length) || []
  return found.sort((i, j) => begins(j) - begins(i)).slice(0, n)
}

// ---- The address: #stars=541:5,1214:4.5 (a film's number at MovieLens, and its stars).

const written = (model, rated) => [...rated].map(([i, s]) => `${model.id[i]}:${s}`).join(',')
export const writeAddress = (model, rated) => rated.size ? '#stars=' + written(model, rated) : ''

export function readAddress(model, hash) {
  const rated = new Map(), ignored = []
  let text = hash.replace(/^#/, '')
  try { text = decodeURIComponent(text) } catch { /* a stray % stays as it is */ }
  if (!text || document.getElementById(text)) return {rated, ignored}
  if (!text.startsWith('stars=')) return {rated, ignored: [text]}
  for (const part of text.slice(6).split(',').filter(Boolean)) {
    const [, id, stars] = part.match(/^(\d{1,9}):(\d(?:\.\d)?)$/) || [], i = model.code.get(+id)
    const good = i !== undefined && !rated.has(i) && stars >= 0.5 && stars <= 5 && stars * 2 % 1 === 0
    good ? rated.set(i, +stars) : ignored.push(part)
  }
  return {rated, ignored}
}

// ---- What is kept in the browser: the stars, and the ones before them, for Undo.

const KEPT = 'mfbook-rate'
function recall() {
  try { return {now: '', before: [], ...JSON.parse(localStorage.getItem(KEPT))} }
  catch { return {now: '', before: []} }                                 // storage is switched off, or holds something else
}
function keep(now, before) {
  try { localStorage.setItem(KEPT, JSON.stringify({now, before: before.slice(-50)})) }
  catch { /* then the address alone holds the stars */ }
}

// ---- Small tools for the page.

function make(tag, attrs = {}, ...inside) {
  const e = document.createElement(tag)
  for (const [k, v] of Object.entries(attrs)) k.startsWith('on') ? e.addEventListener(k.slice(2), v) : e.setAttribute(k, v)
  e.append(...inside)
  return e
}
const safe = text => text.replace(/[&<>"]/g, c => `&#${c.charCodeAt()};`)                  // as a part of HTML or SVG
const count = (n, word) => `${n} ${word}${n === 1 ? '' : 's'}`
const signed = (v, digits = 2) => (v < 0 ? '\u2212' : '+') + Math.abs(v).toFixed(digits)
const clamp = (model, v) => Math.min(model.range[1], Math.max(model.range[0], v))
const titled = (model, i) => [model.short[i], make('small', {}, ` ${model.year[i]}`)]

const TASTES = {
  'Science fiction': '541:5,1214:5,2571:5,924:4.5,2671:2,1721:2',      // Blade Runner, Alien, ... not Titanic
  'Love stories': '2671:5,4246:4.5,17:5,2424:4.5,589:2,1214:1.5',      // Notting Hill, ... not Terminator 2
  'Old classics': '912:5,923:5,904:5,903:5,1917:1.5,780:2',            // Casablanca, ... not Armageddon
  'Action': '780:5,1917:5,733:4.5,1036:5,923:2,608:2'}                 // Independence Day, ... not Citizen Kane

// A film with its stars: ten radio buttons, half a star each. `rate` hears what was chosen; 0 is no stars.
function starCard(model, i, name, rate) {
  const stars = make('div', {class: 'rate-stars', onpointerleave: () => stars.style.removeProperty('--hover')})
  for (let s = 0.5; s <= 5; s += 0.5) {
    const radio = make('input', {type: 'radio', name, value: s, 'aria-label': count(s, 'star'), onchange: () => rate(s)})
    const over = e => e.pointerType === 'mouse' && stars.style.setProperty('--hover', s)
    stars.append(make('label', {title: count(s, 'star'), onpointerenter: over}, radio))
  }
  const value = make('span', {class: 'rate-value', 'aria-hidden': 'true'})
  const away = make('button', {type: 'button', class: 'rate-away', 'aria-label': `Take the stars of ${model.name[i]} away`,
    onclick: () => { rate(0); stars.querySelector('input').focus() }}, '\u00d7')
  const ends = e => {                                                    // at either end the arrows stay, and do not start again
    const stop = {ArrowRight: '5', ArrowDown: '5', ArrowLeft: '0.5', ArrowUp: '0.5'}[e.key]
    if (stop && e.target.value === stop) e.preventDefault()
  }
  const element = make('div', {class: 'rate-card', role: 'radiogroup', onkeydown: ends, 'aria-label': `Stars for ${model.name[i]}`},
    make('span', {class: 'rate-name'}, ...titled(model, i)), stars, value, away)
  const set = s => {
    stars.style.setProperty('--stars', s)
    value.textContent = s || ''
    away.hidden = !s
    for (const r of stars.querySelectorAll('input')) r.checked = +r.value === s
  }
  return {element, set, focus: () => (stars.querySelector(':checked') || stars.querySelectorAll('input')[5]).focus()}
}

// `n` rows that stay where they are and change what they say, so that a click in them does not lose the focus. `under`,
// the answer to Why, moves beneath the one that is open.
function filmRows(list, n, pick, under) {
  return Array.from({length: n}, () => {
    const [name, bar, value] = ['rate-name', 'rate-stars', 'rate-value'].map(c => make('span', {class: c}))
    const button = make('button', {type: 'button', onclick: () => pick(+button.dataset.film)}, name, bar, value)
    const li = make('li', {}, button)
    list.append(li)
    return (i, inName, stars, text, open) => {
      li.hidden = i === undefined
      if (li.hidden) return
      button.dataset.film = i
      button.setAttribute('aria-expanded', String(open))
      name.replaceChildren(...inName)
      bar.style.setProperty('--stars', stars)
      value.textContent = text
      if (open && under.parentNode !== li) li.append(under)
    }
  })
}

// The search field and the list of films beneath it (the pattern "combobox"): arrows move, Enter takes, Escape closes.
function searchBox(model, field, list, take) {
  let found = [], active = -1
  const mark = n => {
    active = n
    ;[...list.children].forEach((li, j) => li.setAttribute('aria-selected', String(j === n)))
    if (n < 0) return field.removeAttribute('aria-activedescendant')
    field.setAttribute('aria-activedescendant', list.children[n].id)
    list.children[n].scrollIntoView({block: 'nearest'})
  }
  const open = yes => { list.hidden = !yes; field.setAttribute('aria-expanded', String(yes)) }
  const look = () => {
    found = search(model, field.value)
    list.replaceChildren(...found.map((i, n) => make('li', {role: 'option', id: `${list.id}-${n}`,
      onpointerdown: e => e.preventDefault(), onclick: () => choose(i)}, model.title[i], make('small', {}, ` ${model.year[i]}`))))
    if (field.value.trim() && !found.length) list.append(make('li', {role: 'option', 'aria-disabled': 'true'},
      `No film here goes by these words. It may have fewer than ${model.least} ratings.`))
    open(list.children.length > 0)
    mark(-1)
  }
  const choose = i => { open(false); mark(-1); field.value = ''; take(i) }
  const keys = {
    ArrowDown() { if (list.hidden) look(); if (found.length) mark((active + 1) % found.length) },
    ArrowUp() { if (list.hidden) look(); if (found.length) mark((Math.max(active, 0) + found.length - 1) % found.length) },
    Enter() { if (!list.hidden && found.length) choose(found[Math.max(active, 0)]) },
    Escape() { if (list.hidden) field.value = ''; open(false); mark(-1) }}
  field.addEventListener('input', look)
  field.addEventListener('blur', () => { open(false); mark(-1) })
  field.addEventListener('keydown', e => { if (keys[e.key]) { e.preventDefault(); keys[e.key]() } })
}

// Bars to the right and to the left of a middle line: [[name, value], ...].
function drawBars(box, bars, label) {
  const W = box.clientWidth || 320, H = 36, middle = W / 2, most = Math.max(1, ...bars.map(b => Math.abs(b[1])))
  label += `: ${bars.map(([name, v]) => `${name} ${signed(v, 1)}`).join('; ')}`
  box.innerHTML = `<svg viewBox="0 0 ${W} ${bars.length * H}" width="${W}" height="${bars.length * H}" role="img"
    aria-label="${safe(label)}">${bars.map(([name, v], n) => {
    const less = v < 0, length = Math.abs(v) / most * (middle - 46), end = middle + (less ? -length : length)
    return `<g transform="translate(0 ${n * H})">
      <text x="${middle}" y="13" text-anchor="middle" class="rate-label">${safe(name)}</text>
      <rect x="${Math.min(middle, end)}" y="19" width="${Math.max(1, length)}" height="10" rx="2" class="rate-${less ? 'less' : 'more'}"/>
      <line x1="${middle}" x2="${middle}" y1="16" y2="32" class="rate-axis"/>
      <text x="${end + (less ? -5 : 5)}" y="28" text-anchor="${less ? 'end' : 'start'}">${signed(v, 1)}</text></g>`
  }).join('')}</svg>`
}

// The map: films as dots, names where there is room, and the reader. `kind(i)` is film, best, mine or chosen.
const RANK = {film: 0, best: 1, mine: 2, chosen: 3}
function drawMap(box, model, kind, w) {
  const films = model.byCount.filter(i => model.count[i] >= model.map.least || kind(i) !== 'film')
  films.sort((i, j) => RANK[kind(i)] - RANK[kind(j)])
  const you = place(model, w).map(v => v * model.map.stretch), points = [...films.map(i => model.at[i]), you]
  const [[x0, x1], [y0, y1]] = [0, 1].map(d => points.map(p => p[d])).map(v => [Math.min(...v), Math.max(...v)])
  const W = box.clientWidth || 320, pad = 24, inner = W - 2 * pad
  const H = Math.min(600, Math.max(300, inner * (y1 - y0) / (x1 - x0) + 2 * pad))
  const unit = Math.min(inner / (x1 - x0), (H - 2 * pad) / (y1 - y0))            // the same both ways: directions stay true
  const at = ([x, y]) => [W / 2 + (x - (x0 + x1) / 2) * unit, H / 2 - (y - (y0 + y1) / 2) * unit]
  const [[ox, oy], [mx, my]] = [at([0, 0]), at(you)]
  const dots = films.map(i => {
    const [x, y] = at(model.at[i]), r = kind(i) === 'film' ? 2.2 : 4.5
    return `<circle cx="${x}" cy="${y}" r="${r}" class="rate-${kind(i)}"><title>${safe(model.name[i])}</title></circle>`
  })
  const taken = [[mx - 16, my - 26, mx + 16, my + 8], [W - 112, oy - 17, W, oy], [ox - 17, 0, ox, 125]]   // boxes in use
  const marked = films.filter(i => kind(i) !== 'film').map(i => at(model.at[i])).map(([x, y]) => [x - 5, y - 5, x + 5, y + 5])
  const meets = (b, boxes) => boxes.some(t => b[0] < t[2] && t[0] < b[2] && b[1] < t[3] && t[1] < b[3])
  const free = (b, i) => b[0] > 1 && b[2] < W - 1 && b[1] > 0 && b[3] < H && !meets(b, taken) &&
    (kind(i) === 'chosen' || !meets(b, marked))
  const pen = document.createElement('canvas').getContext('2d'), names = []
  pen.font = `11.5px ${getComputedStyle(box).fontFamily}`
  for (const i of [...films].sort((i, j) => RANK[kind(j)] - RANK[kind(i)])) {
    const [x, y] = at(model.at[i]), text = model.short[i].replace(/^(.{24}).{2,}/, '$1\u2026')
    const width = pen.measureText(text).width, middle = x - width / 2
    const around = [[x + 7, y - 8], [x - 7 - width, y - 8], [middle, y - 21], [middle, y + 6]]
    const box = around.map(([left, top]) => [left, top, left + width + 4, top + 14]).find(b => free(b, i))
    if (!box || names.length === (W < 500 ? 16 : 44)) continue
    taken.push(box)
    names.push(`<text x="${box[0]}" y="${box[1] + 12}" class="${kind(i) === 'film' ? 'rate-label' : ''}">${safe(text)}</text>`)
  }
  const label = `Map of films. Your dot lies ${Math.abs(you[0]).toFixed(1)} to the ${you[0] < 0 ? 'left' : 'right'} of its ` +
    `middle and ${Math.abs(you[1]).toFixed(1)} ${you[1] < 0 ? 'below' : 'above'} it.`
  box.innerHTML = `<svg viewBox="0 0 ${W} ${H}" width="${W}" height="${H}" role="img" aria-label="${label}">
    <path d="M0 ${oy}H${W}M${ox} 0V${H}" class="rate-axis"/>${dots.join('')}${names.join('')}
    <text x="${W - 4}" y="${oy - 5}" text-anchor="end" class="rate-label">first direction \u2192</text>
    <text transform="translate(${ox - 5} 4) rotate(-90)" text-anchor="end" class="rate-label">second direction \u2192</text>
    <path d="M${ox} ${oy}L${mx} ${my}" class="rate-way"/><circle cx="${mx}" cy="${my}" r="8" class="rate-you"/>
    <text x="${mx}" y="${my - 12}" text-anchor="middle" class="rate-you-name">you</text></svg>`
}

// ---- The page. `rated` (film -> stars) is all there is to know; `show` draws what follows from it.

const skeleton = (id, H, model) => `
  <p class="rate-unseen" role="status" aria-live="polite"></p>
  <div class="rate-tools">
    <div class="rate-search">
      <input type="text" role="combobox" aria-label="Find a film" placeholder="Find a film" autocomplete="off"
        spellcheck="false" aria-autocomplete="list" aria-controls="${id}-found" aria-expanded="false">
      <ul class="rate-found" role="listbox" id="${id}-found" aria-label="Films found" hidden></ul>
    </div>
    <button type="button" class="rate-button rate-undo">Undo</button>
    <button type="button" class="rate-button rate-reset">Reset</button>
    <button type="button" class="rate-button rate-copy">Copy link</button>
  </div><div class="rate-tools rate-tastes" role="group" aria-label="Example tastes">
    <span class="rate-quiet">Or start from a taste:</span></div>
  <p class="rate-note" hidden></p>
  <div class="rate-two">
    <section aria-labelledby="${id}-yours">
      <${H} id="${id}-yours">Your stars</${H}>
      <div class="rate-cards"></div>
      <button type="button" class="rate-button rate-more-films">More films</button>
      <button type="button" class="rate-glance"></button>
    </section><section class="rate-answer" aria-labelledby="${id}-ten">
      <${H} id="${id}-ten" tabindex="-1">Ten films for you</${H}>
      <p class="rate-quiet rate-about"></p>
      <ol class="rate-ten rate-best-films"></ol>
      <fieldset class="rate-order"><legend>In the order of</legend>
        <label><input type="radio" name="${id}-order" value="likes" checked> what people like who like the same</label>
        <label><input type="radio" name="${id}-order" value="stars"> predicted stars</label>
      </fieldset>
      <p class="rate-order"><label>Films with at least
        <select>${[5, 10, 20, 50, 100].map(n => `<option${n === model.list_least ? ' selected' : ''}>${n}</option>`).join('')}</select>
        ratings</label></p>
    </section></div>
  <section aria-labelledby="${id}-map">
    <${H} id="${id}-map">You on the map of films</${H}>
    <div class="rate-map"></div>
    <p class="rate-quiet">Each dot is a film with ${model.map.least} ratings or more, in the two directions in which the
      films' factors differ most in the model of stars: ${model.map.share.map(s => `${Math.round(s * 100)}\u00a0%`).join(' and ')}
      of all their differences. A film that lies your way from the middle gains stars by it. Orange is what you rated, blue
      what is on your list.</p>
    <p class="rate-quiet">The models have read ${model.ratings.toLocaleString('en')} ratings by ${model.people} people, from
      MovieLens. The ${model.id.length.toLocaleString('en')} films with ${model.least} ratings or more can be rated here.
      Your stars stay in your browser and in this page's address.</p>
  </section>`

const answer = `<p class="rate-quiet rate-genres"></p><p class="rate-sum"></p>
  <p class="rate-quiet">What each of your ratings adds to its place on the list, in points:</p>
  <div class="rate-chart"></div><p class="rate-quiet rate-add"></p>
  <p class="rate-quiet rate-similar"></p>`

let pages = 0
function start(root, model) {
  root.innerHTML = skeleton(`rate${++pages}`, root.dataset.heading || 'h2', model)
  root.classList.add('rate-ready')
  const under = make('div', {class: 'rate-why', hidden: ''})
  under.innerHTML = answer
  const part = name => root.querySelector(`.rate-${name}`) || under.querySelector(`.rate-${name}`)
  const rated = new Map(), cards = new Map(), unrated = foldBoth(model, rated)
  const [orders, least, field] = [root.querySelectorAll('[name$=order]'), root.querySelector('select'), root.querySelector('input')]
  let before = []                                          // earlier stars, as text: what Undo goes back to
  let fold, best = [], chosen = null                       // the film whose Why is open

  function card(i, first) {
    if (!cards.has(i)) {
      cards.set(i, starCard(model, i, `rate${pages}-film${i}`, s => rate(i, s)))
      part('cards')[first ? 'prepend' : 'append'](cards.get(i).element)
    }
    return cards.get(i)
  }
  const more = n => model.byCount.filter(i => !cards.has(i)).slice(0, Math.max(n, 0)).map(i => card(i))

  const stars = i => expected(model, fold, i)
  const withError = i => `${stars(i).toFixed(1)} \u00b1 ${plusMinus(model.stars, fold.stars, i).toFixed(1)}`

  // All films with enough ratings, best first, as somebody with this `fold` would see them.
  function ordered(fold) {
    const value = model.id.map((_, i) => orders[1].checked ? expected(model, fold, i) : score(model, fold, i))
    const listable = model.byCount.filter(i => model.count[i] >= +least.value && !rated.has(i))
    return listable.sort((i, j) => value[j] - value[i])
  }

  function show() {
    fold = foldBoth(model, rated)
    best = ordered(fold).slice(0, 10)
    const places = ordered(unrated)
    if (!best.includes(chosen)) chosen = null
    cards.forEach((c, i) => c.set(rated.get(i) || 0))
    under.hidden = chosen === null
    ten.forEach((row, n) => {
      const i = best[n]
      if (i === undefined) row()
      else row(i, [...titled(model, i), ...moved(places.indexOf(i), n)], stars(i), withError(i), i === chosen)
    })
    part('undo').disabled = !before.length
    part('reset').disabled = !rated.size
    part('about').textContent = rated.size
      ? `Computed from your stars for ${count(rated.size, 'film')}. Open a film to see why. ` +
        'Of three ratings about two lie within the \u00b1. \u201cWas\u201d is its place before your stars.'
      : 'You have not rated a film yet: this is what is expected of anybody.'
    part('glance').textContent = '\u2193 Your list: ' + best.slice(0, 2).map((i, n) => `${n + 1}. ${model.short[i]}`).join(', ')
    if (chosen !== null) explain(chosen)
    const kind = i => i === chosen ? 'chosen' : rated.has(i) ? 'mine' : best.includes(i) ? 'best' : 'film'
    drawMap(part('map'), model, kind, fold.stars.w)
  }
  const moved = (was, is) => !rated.size || was === is ? []
    : [make('small', {class: 'rate-moved'}, `${was > is ? '\u2191' : '\u2193'} was place ${was + 1}`)]

  function explain(i) {
    const points = pointsOf(model, fold, i), parts = shares(model.stars, fold.stars, i)
    const own = parts.of.reduce((s, v) => s + v, 0), mine = points.of.reduce((s, v) => s + v, 0)
    const genres = model.genres.filter((_, g) => model.genre[i] >> g & 1)
    part('genres').textContent = [...genres, `${model.count[i]} ratings`].join(' \u00b7 ')
    part('sum').textContent = `Predicted: ${withError(i)} stars. That is ${model.stars.mu.toFixed(2)} (mean of all ratings) ` +
      `${signed(model.stars.bias[i])} (this film's bias) ${rated.size ? `${signed(own)} (your ratings) ` : ''}` +
      `${signed(parts.prior)} (anybody) = ${predict(model.stars, fold.stars, i).toFixed(2)}, and a little less near the end of the scale.`
    const bars = fold.films.map((j, n) => [`${model.short[j]}, ${count(rated.get(j), 'star')}`, points.of[n]])
    bars.sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]))
    if (bars.length > 12) bars.push([`${bars.length - 11} others`, bars.splice(11).reduce((s, b) => s + b[1], 0)])
    drawBars(part('chart'), [...bars, ['what it gets from anybody', points.anybody]], `Points of ${model.name[i]}`)
    part('add').textContent = `Together ${(mine + points.anybody).toFixed(1)} points.`
    const others = model.byCount.filter(j => j !== i && model.count[j] >= +least.value)
    const alike = others.map(j => [j, cosine(model.likes.x[i], model.likes.x[j])]).sort((a, b) => b[1] - a[1]).slice(0, 5)
    const named = alike.map(([j, c]) => `${model.short[j]} (${model.year[j]}) ${c.toFixed(2)}`)
    part('similar').textContent = `Liked by the same people (cosine of the factors): ${named.join(', ')}.`
  }

  // What the reader can do. Each ends in `show`, and is told to those who listen instead of looking.
  let waiting
  const tell = text => {
    clearTimeout(waiting)
    waiting = setTimeout(() => { root.querySelector('[role=status]').textContent = text }, 400)
  }
  const tellFirst = text => tell(`${text} First of your ten: ${model.name[best[0]]}, ${stars(best[0]).toFixed(1)} stars.`)
  const remember = () => {
    keep(written(model, rated), before)
    history.replaceState(history.state, '', location.pathname + location.search + writeAddress(model, rated))
  }
  function rate(i, s) {
    before.push(written(model, rated))
    s ? rated.set(i, s) : rated.delete(i)
    remember()
    show()
    tellFirst(`${model.name[i]}: ${s ? count(s, 'star') : 'no stars'}.`)
  }
  const parsed = text => readAddress(model, text ? '#stars=' + text : '')
  function begin(from, message) {
    rated.clear(); cards.clear(); part('cards').replaceChildren()
    chosen = null; part('note').hidden = true
    for (const [i, s] of from) { rated.set(i, s); card(i) }
    more(Math.max(4, (root.clientWidth < 640 ? 6 : 10) - rated.size))
    show()
    tellFirst(message)
  }
  function replaceAll(from, message) {
    before.push(written(model, rated))
    begin(from, message)
    remember()
  }
  const note = text => { part('note').textContent = text; part('note').hidden = false; tell(text) }

  // The address first; without stars in it, what this browser has kept. Stars of a link never overwrite the reader's own.
  function beginFromAddress() {
    const kept = recall(), link = readAddress(model, location.hash), linked = written(model, link.rated)
    const foreign = link.rated.size > 0 && linked !== kept.now
    before = foreign && kept.now ? [...kept.before, kept.now] : kept.before
    const from = link.rated.size ? link.rated : parsed(kept.now).rated
    begin(from, '')
    if (!location.hash && rated.size) remember()           // an anchor in the address stays
    if (foreign && kept.now) note('These stars came with the link. Undo brings your own back.')
    if (!link.ignored.length) return
    const some = link.ignored.slice(0, 3).map(t => `\u201c${t.slice(0, 40)}\u201d`).join(', '), more = link.ignored.length - 3
    note(`Part of this page's address is no film with stars, and has been left out: ${some}` +
      (more > 0 ? ` and ${more} more. ` : '. ') +
      (from.size ? `What could be read is here: ${count(from.size, 'film')}.` : 'You can start afresh below.'))
  }
  function undo() {
    if (!before.length) return
    begin(parsed(before.pop()).rated, 'Undone.')
    remember()
    if (part('undo').disabled) field.focus()
  }
  const pick = i => {
    chosen = chosen === i ? null : i
    show()
    tell(chosen === null ? 'Closed.' : `${model.name[i]}. ${part('sum').textContent}`)
  }
  const ten = filmRows(part('best-films'), 10, pick, under)
  searchBox(model, field, part('found'), i => {
    card(i, true).set(rated.get(i) || 0)
    card(i).focus()
    tell(`${model.name[i]}. Choose its stars with the arrow keys.`)
  })
  for (const e of [...orders, least]) e.addEventListener('change', () => { show(); tellFirst('') })
  for (const [name, stars] of Object.entries(TASTES)) {
    const start = () => replaceAll(parsed(stars).rated, `Example taste: ${name}.`)
    part('tastes').append(make('button', {type: 'button', class: 'rate-button', onclick: start}, name))
  }
  part('undo').addEventListener('click', undo)
  part('reset').addEventListener('click', () => {
    if (!confirm(`Take the stars of ${count(rated.size, 'film')} away? Undo brings them back.`)) return
    replaceAll([], 'All stars are taken away.')
    field.focus()
  })
  part('more-films').addEventListener('click', () => { const [first] = more(6); show(); first?.focus() })
  part('glance').addEventListener('click', () => {
    part('answer').scrollIntoView()
    part('answer').querySelector('[tabindex]').focus({preventScroll: true})
  })
  part('copy').addEventListener('click', async () => {
    const copied = await navigator.clipboard?.writeText(location.href).then(() => true, () => false)
    part('copy').textContent = copied ? 'Copied' : 'Copy it from the address bar'
    tell(part('copy').textContent)
    setTimeout(() => { part('copy').textContent = 'Copy link' }, 3000)
  })
  addEventListener('hashchange', () => { if (location.hash.startsWith('#stars=')) beginFromAddress() })
  beginFromAddress()
  if (root.id) document.body.prepend(make('a', {class: 'rate-skip', href: `#${root.id}`,
    onclick: e => { e.preventDefault(); field.focus() }}, 'Skip to the films'))
  let width = root.clientWidth
  new ResizeObserver(() => { if (root.clientWidth !== width) { width = root.clientWidth; show() } }).observe(root)
}

// ---- In every element that asks for it: <div data-films="assets/rate/films.bin">.

async function load(root) {
  try {
    const answer = await fetch(root.dataset.films || new URL('films.bin', import.meta.url))
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`)
    start(root, readModel(await answer.arrayBuffer()))
  } catch (e) {
    root.replaceChildren(make('p', {class: 'rate-note', role: 'alert'}, `The films could not be read (${e.message}), so there ` +
      'is nothing to rate here yet. Loading the page again may help.'))
  }
}
// The file of films is large, so it waits until the reader comes near.
const whenNear = root => {
  const eye = new IntersectionObserver(found => {
    if (!found.some(e => e.isIntersecting)) return
    eye.disconnect()
    load(root)
  }, {rootMargin: '600px'})
  eye.observe(root)
}
const loadAll = () => document.querySelectorAll('#rate-films, [data-films]').forEach(whenNear)
const style = {rel: 'stylesheet', href: new URL('rate.css', import.meta.url), onload: loadAll, onerror: loadAll}
document.head.append(make('link', style))
