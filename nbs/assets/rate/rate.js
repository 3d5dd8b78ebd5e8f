// "Rate ten films": the reader's stars are folded into the book's model, here in the browser.
// First the mathematics (lesson 08, `fold_in` and `why`), as functions of plain arrays; then the file, the address, and
// the page. A film is its row in the file, `i`; its number at MovieLens stands in the address only.

// ---- Mathematics. A film's row x = [q_1, ..., q_k, 1]; a person's row w = [p_1, ..., p_k, bias].

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

// Fold a person in: (X'X + L) w = X'y + L m, with y_j = r_j - mu - b_j. Without a rating, w = m.
export function foldIn(model, films, stars) {
  const n = model.k + 1, times = model.per_rating ? Math.max(1, films.length) : 1
  const A = Float64Array.from(model.precision, v => v * times), X = films.map(i => model.x[i])
  const y = films.map((i, j) => stars[j] - model.mu - model.bias[i])
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

// Unclamped predictions, in stars; and the part of them that is taste alone, p . q.
export const predict = (model, w, i) => model.mu + model.bias[i] + dot(model.x[i], w)
export const taste = (model, w, i) => dot(model.x[i], w) - w[model.k]

// Why: w is a sum over the ratings, so x . w is one too. Rating j's share is (x' A^-1 x_j) y_j; the rest is the prior's.
export function shares(model, fold, i) {
  const a = solve(fold.C, model.k + 1, model.x[i])                       // A^-1 x
  return {of: fold.X.map((x, j) => dot(a, x) * fold.y[j]), prior: dot(a, fold.fromPrior)}
}

// The cosine between two films' factors, the 1 at the row's end left out.
export function cosine(model, i, j) {
  const [p, q] = [model.x[i], model.x[j]], length = v => Math.sqrt(dot(v, v) - 1)
  return (dot(p, q) - 1) / (length(p) * length(q) || 1)
}

// A place on the map: a film's distance from the middle film, or a person's factors, along the two directions.
export const place = (model, v, middle) =>
  model.map.axes.map(axis => axis.reduce((s, c, t) => s + c * (v[t] - (middle ? middle[t] : 0)), 0))

// ---- The file: a line of JSON, then (k factors, bias) of each film as 16-bit whole numbers.

export function readModel(buffer) {
  const end = new Uint8Array(buffer).indexOf(10)
  const model = JSON.parse(new TextDecoder().decode(buffer.slice(0, end)))
  const table = new Int16Array(buffer.slice(end + 1)), {k, scale} = model, n = model.id.length
  if (table.length !== n * (k + 1)) throw new Error('the file is not whole')
  model.x = model.id.map((_, i) => Float64Array.from({length: k + 1}, (_, t) =>
    t < k ? table[i * (k + 1) + t] * scale[0] : 1))
  model.bias = model.id.map((_, i) => table[i * (k + 1) + k] * scale[1])
  ;[model.mean, model.precision] = [model.prior_mean, model.prior_precision.flat()].map(a => Float64Array.from(a))
  model.name = model.title.map((t, i) => `${t} (${model.year[i]})`)
  model.short = model.title.map(t => t.replace(/ \(.*/, ''))
  model.plain = model.name.map(plain)
  model.code = new Map(model.id.map((id, i) => [id, i]))
  model.at = model.x.map(x => place(model, x, model.map.middle))
  model.byCount = model.id.map((_, i) => i).sort((i, j) => model.count[j] - model.count[i])
  return model
}

// Letters and digits, without case and accents: what a search compares.
const plain = s => s.normalize('NFD').replace(/[\u0300-\u036f]/g, '').toLowerCase().replace(/[^a-z0-9]+/g, ' ').trim()

// Films that have every word looked for; those whose title starts so first, then those with more ratings.
export function search(model, text, n = 8) {
  const wanted = plain(text), words = wanted.split(' ')
  const bare = t => t.replace(/^(the|a|an) /, ''), starts = i => bare(model.plain[i]).startsWith(bare(wanted))
  return !wanted ? [] : model.byCount.filter(i => words.every(w => (' ' + model.plain[i]).includes(' ' + w)))
    .sort((i, j) => starts(j) - starts(i)).slice(0, n)
}

// ---- The address: #stars=541:5,1214:4.5 (a film's number at MovieLens, and its stars).

export const writeAddress = (model, rated) =>
  rated.size ? '#stars=' + [...rated].map(([i, s]) => `${model.id[i]}:${s}`).join(',') : ''

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

// ---- Small tools for the page.

function make(tag, attrs = {}, ...inside) {
  const e = document.createElement(tag)
  for (const [k, v] of Object.entries(attrs)) k.startsWith('on') ? e.addEventListener(k.slice(2), v) : e.setAttribute(k, v)
  e.append(...inside)
  return e
}
const safe = text => text.replace(/[&<>"]/g, c => `&#${c.charCodeAt()};`)                  // as a part of HTML or SVG
const count = (n, word) => `${n} ${word}${n === 1 ? '' : 's'}`
const signed = v => (v < 0 ? '\u2212' : '+') + Math.abs(v).toFixed(2)
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
  const element = make('div', {class: 'rate-card', role: 'radiogroup', 'aria-label': `Stars for ${model.name[i]}`},
    make('span', {class: 'rate-name'}, ...titled(model, i)), stars, value, away)
  const set = s => {
    stars.style.setProperty('--stars', s)
    value.textContent = s || ''
    away.hidden = !s
    for (const r of stars.querySelectorAll('input')) r.checked = +r.value === s
  }
  return {element, set, focus: () => (stars.querySelector(':checked') || stars.querySelectorAll('input')[5]).focus()}
}

// `n` rows that stay where they are and change what they say, so that a click in them does not lose the focus.
function filmRows(model, list, n, pick) {
  return Array.from({length: n}, () => {
    const [name, bar, value] = ['rate-name', 'rate-stars', 'rate-value'].map(c => make('span', {class: c}))
    const button = make('button', {type: 'button', onclick: () => pick(+button.dataset.film)}, name, bar, value)
    const li = make('li', {}, button)
    list.append(li)
    return (i, stars, text, pressed) => {
      if (li.hidden = i === undefined) return
      button.dataset.film = i
      button.setAttribute('aria-pressed', String(pressed))
      name.replaceChildren(...titled(model, i))
      bar.hidden = stars === null
      bar.style.setProperty('--stars', stars)
      value.textContent = text
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
  const W = box.clientWidth || 320, H = 36, middle = W / 2, most = Math.max(0.05, ...bars.map(b => Math.abs(b[1])))
  label += `: ${bars.map(([name, v]) => `${name} ${signed(v)}`).join('; ')}`
  box.innerHTML = `<svg viewBox="0 0 ${W} ${bars.length * H}" width="${W}" height="${bars.length * H}" role="img"
    aria-label="${safe(label)}">${bars.map(([name, v], n) => {
    const less = v < 0, length = Math.abs(v) / most * (middle - 46), end = middle + (less ? -length : length)
    return `<g transform="translate(0 ${n * H})">
      <text x="${middle}" y="13" text-anchor="middle" class="rate-label">${safe(name)}</text>
      <rect x="${Math.min(middle, end)}" y="19" width="${Math.max(1, length)}" height="10" rx="2" class="rate-${less ? 'less' : 'more'}"/>
      <line x1="${middle}" x2="${middle}" y1="16" y2="32" class="rate-axis"/>
      <text x="${end + (less ? -5 : 5)}" y="28" text-anchor="${less ? 'end' : 'start'}">${signed(v)}</text></g>`
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
      <button type="button" class="rate-glance" aria-hidden="true" tabindex="-1"></button>
    </section><section class="rate-answer" aria-labelledby="${id}-ten">
      <${H} id="${id}-ten">Ten films for you</${H}>
      <p class="rate-quiet rate-about"></p>
      <ol class="rate-ten rate-best-films"></ol>
      <fieldset class="rate-order"><legend>In the order of</legend>
        <label><input type="radio" name="${id}-order" value="stars" checked> predicted stars</label>
        <label><input type="radio" name="${id}-order" value="taste"> your taste alone</label>
      </fieldset>
      <p class="rate-order"><label>Films with at least
        <select>${[5, 10, 20, 50, 100].map(n => `<option${n === 50 ? ' selected' : ''}>${n}</option>`).join('')}</select>
        ratings</label></p>
    </section></div>
  <section aria-labelledby="${id}-why">
    <${H} id="${id}-why">Why <span class="rate-film-name"></span></${H}>
    <p class="rate-quiet rate-genres"></p><p class="rate-sum"></p>
    <div class="rate-two">
      <div><p class="rate-quiet">What each of your ratings adds to it, in stars:</p>
        <div class="rate-chart"></div><p class="rate-quiet rate-add"></p></div>
      <div><p class="rate-quiet">Similar films, by the cosine of their factors:</p>
        <ul class="rate-ten rate-similar"></ul></div>
    </div>
  </section><section aria-labelledby="${id}-map">
    <${H} id="${id}-map">You on the map of films</${H}>
    <div class="rate-map"></div>
    <p class="rate-quiet">Each dot is a film with ${model.map.least} ratings or more, in the two directions in which the
      films' factors differ most: ${model.map.share.map(s => `${Math.round(s * 100)}\u00a0%`).join(' and ')} of all their
      differences. A film that lies your way from the middle gains by it in your list. Orange is what you rated, blue what
      is predicted for you.</p>
    <p class="rate-quiet">The model has read ${model.ratings.toLocaleString('en')} ratings by ${model.people} people, from
      MovieLens. The ${model.id.length.toLocaleString('en')} films with ${model.least} ratings or more can be rated here.
      Your stars stay in your browser and in this page's address.</p>
  </section>`

let pages = 0
function start(root, model) {
  root.innerHTML = skeleton(`rate${++pages}`, root.dataset.heading || 'h2', model)
  root.classList.add('rate-ready')
  const part = name => root.querySelector(`.rate-${name}`)
  const rated = new Map(), cards = new Map()
  const [orders, least] = [root.querySelectorAll('[name$=order]'), root.querySelector('select')]
  let fold, best = [], chosen = null                       // the film that is explained; null is the first of the ten
  const explained = () => chosen ?? best[0]

  function card(i, first) {
    if (!cards.has(i)) {
      cards.set(i, starCard(model, i, `rate${pages}-film${i}`, s => rate(i, s)))
      part('cards')[first ? 'prepend' : 'append'](cards.get(i).element)
    }
    return cards.get(i)
  }
  const more = n => model.byCount.filter(i => !cards.has(i)).slice(0, Math.max(n, 0)).map(i => card(i))

  function show() {
    fold = foldIn(model, [...rated.keys()], [...rated.values()])
    const byTaste = orders[1].checked, score = model.id.map((_, i) => (byTaste ? taste : predict)(model, fold.w, i))
    best = model.byCount.filter(i => model.count[i] >= +least.value && !rated.has(i))
      .sort((i, j) => score[j] - score[i]).slice(0, 10)
    cards.forEach((c, i) => c.set(rated.get(i) || 0))
    ten.forEach((row, n) => {
      const i = best[n]
      row(i, stars(i), byTaste ? signed(score[i]) : stars(i).toFixed(2), i === explained())
    })
    part('about').textContent = (rated.size ? `Computed from your stars for ${count(rated.size, 'film')}.`
      : 'You have not rated a film yet: this is what is expected of anybody.') +
      (byTaste ? ' The numbers are what your own factors add to each film.' : '')
    part('glance').textContent = `1. ${model.short[best[0]]}, ${stars(best[0]).toFixed(1)} stars \u2193`
    explain(explained())
    const kind = i => i === explained() ? 'chosen' : rated.has(i) ? 'mine' : best.includes(i) ? 'best' : 'film'
    drawMap(part('map'), model, kind, fold.w)
  }
  const stars = i => i === undefined ? 0 : clamp(model, predict(model, fold.w, i))

  function explain(i) {
    const {of, prior} = shares(model, fold, i), own = of.reduce((s, v) => s + v, 0)
    part('film-name').textContent = model.name[i]
    part('genres').textContent = [...model.genres.filter((_, g) => model.genre[i] >> g & 1), `${model.count[i]} ratings`].join(' \u00b7 ')
    part('sum').textContent = `Predicted: ${stars(i).toFixed(2)} stars.${rated.has(i) ? ` You gave ${rated.get(i)}.` : ''}`
    const bars = [...rated].map(([j, s], n) => [`${model.short[j]}, ${count(s, 'star')}`, of[n]])
    bars.sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]))
    if (bars.length > 12) bars.push([`${bars.length - 11} others`, bars.splice(11).reduce((s, b) => s + b[1], 0)])
    drawBars(part('chart'), [...bars, ['what is expected of anybody', prior]], `Shares of the prediction for ${model.name[i]}`)
    part('add').textContent = `${model.mu.toFixed(2)} (mean of all ratings) ${signed(model.bias[i])} (this film's bias) ` +
      `${rated.size ? `${signed(own)} (your ratings) ` : ''}${signed(prior)} (anybody) = ${predict(model, fold.w, i).toFixed(2)}`
    const others = model.byCount.filter(j => j !== i && model.count[j] >= +least.value).map(j => [j, cosine(model, i, j)])
    others.sort((a, b) => b[1] - a[1])
    similar.forEach((row, n) => row(others[n]?.[0], null, others[n]?.[1].toFixed(2), false))
  }

  // What the reader can do. Each ends in `show`, and is told to who listens instead of looking.
  let waiting
  const tell = text => {
    clearTimeout(waiting)
    waiting = setTimeout(() => { root.querySelector('[role=status]').textContent = text }, 400)
  }
  const tellFirst = text => tell(`${text} First of your ten: ${model.name[best[0]]}, ${stars(best[0]).toFixed(1)} stars.`)
  const remember = () =>
    history.replaceState(history.state, '', location.pathname + location.search + writeAddress(model, rated))
  function rate(i, s) {
    s ? rated.set(i, s) : rated.delete(i)
    remember()
    show()
    tellFirst(`${model.name[i]}: ${s ? count(s, 'star') : 'no stars'}.`)
  }
  function begin(from, message) {
    rated.clear(); cards.clear(); part('cards').replaceChildren()
    chosen = null; part('note').hidden = true
    for (const [i, s] of from) { rated.set(i, s); card(i) }
    more(Math.max(4, (root.clientWidth < 640 ? 6 : 10) - rated.size))
    show()
    tellFirst(message)
  }
  function beginFromAddress() {
    const {rated: from, ignored} = readAddress(model, location.hash)
    begin(from, '')
    if (!ignored.length) return
    const some = ignored.slice(0, 3).map(t => `\u201c${t.slice(0, 40)}\u201d`).join(', '), more = ignored.length - 3
    part('note').textContent = `Part of this page's address is no film with stars, and has been left out: ${some}` +
      (more > 0 ? ` and ${more} more. ` : '. ') +
      (from.size ? `What could be read is here: ${count(from.size, 'film')}.` : 'You can start afresh below.')
    part('note').hidden = false
    tell(part('note').textContent)
  }
  const pick = i => { chosen = i; show(); tell(`${model.name[i]}. ${part('sum').textContent}`) }
  const ten = filmRows(model, part('best-films'), 10, pick), similar = filmRows(model, part('similar'), 6, pick)
  searchBox(model, root.querySelector('[role=combobox]'), part('found'), i => {
    card(i, true).set(rated.get(i) || 0)
    card(i).focus()
    tell(`${model.name[i]}. Choose its stars with the arrow keys.`)
  })
  for (const e of [...orders, least]) e.addEventListener('change', () => { chosen = null; show(); tellFirst('') })
  for (const [name, stars] of Object.entries(TASTES)) {
    const start = () => { begin(readAddress(model, '#stars=' + stars).rated, `Example taste: ${name}.`); remember() }
    part('tastes').append(make('button', {type: 'button', class: 'rate-button', onclick: start}, name))
  }
  part('reset').addEventListener('click', () => { begin([], 'All stars are taken away.'); remember() })
  part('more-films').addEventListener('click', () => { const [first] = more(6); show(); first?.focus() })
  part('glance').addEventListener('click', () => part('answer').scrollIntoView())
  part('copy').addEventListener('click', async () => {
    const copied = await navigator.clipboard?.writeText(location.href).then(() => true, () => false)
    part('copy').textContent = copied ? 'Copied' : 'Copy it from the address bar'
    tell(part('copy').textContent)
    setTimeout(() => { part('copy').textContent = 'Copy link' }, 3000)
  })
  addEventListener('hashchange', () => { if (location.hash.startsWith('#stars=')) beginFromAddress() })
  beginFromAddress()
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
const loadAll = () => document.querySelectorAll('#rate-films, [data-films]').forEach(load)
const style = {rel: 'stylesheet', href: new URL('rate.css', import.meta.url), onload: loadAll, onerror: loadAll}
document.head.append(make('link', style))
