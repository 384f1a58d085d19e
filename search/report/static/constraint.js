// Constraints such as "lut <= 98303 and power_w < 5": a tree of closures, nothing is executed.
// The grammar is that of `--constraint`: chains of comparisons between sums, joined by "and".

function parseConstraint(text, byName) {
  const tokens = [];
  const pattern = /\s*(?:((?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.])|([A-Za-z_]\w*)|(<=|>=|==|[-+*/()<>]))/y;
  let at = 0, depth = 0;
  const fault = (what, place) => new Error(`column ${place + 1}: ${what}`);
  text = text.trimEnd();
  while (pattern.lastIndex < text.length) {
    const start = pattern.lastIndex, match = pattern.exec(text);
    if (!match) throw fault("not part of a constraint", start + text.slice(start).search(/\S/));
    const [, number, name, symbol] = match;
    tokens.push({ number, name, symbol, place: pattern.lastIndex - (number ?? name ?? symbol).length });
  }
  const next = () => tokens[at] ?? { place: text.length };
  const accept = (...symbols) => (symbols.includes(next().symbol) ? tokens[at++].symbol : null);

  function factor() {
    if (++depth > 64) throw fault("nested too deeply", next().place);
    try {
      if (accept("-")) { const inner = factor(); return (i) => -inner(i); }
      if (accept("+")) return factor();
      if (accept("(")) {
        const inner = sum();
        if (!accept(")")) throw fault("')' expected", next().place);
        return inner;
      }
      const token = next();
      if (token.number !== undefined) { at++; const value = Number(token.number); return () => value; }
      if (token.name === undefined || token.name === "and")
        throw fault("a number or a name expected", token.place);
      const column = byName.get(token.name);
      if (!column) throw fault(`unknown name ${token.name}`, token.place);
      at++;
      return column.number;
    } finally { depth--; }
  }
  const operations = {
    "+": (a, b) => (i) => a(i) + b(i), "-": (a, b) => (i) => a(i) - b(i),
    "*": (a, b) => (i) => a(i) * b(i), "/": (a, b) => (i) => a(i) / b(i),
    "<": (a, b) => (i) => a(i) < b(i), "<=": (a, b) => (i) => a(i) <= b(i),
    ">": (a, b) => (i) => a(i) > b(i), ">=": (a, b) => (i) => a(i) >= b(i),
    "==": (a, b) => (i) => a(i) === b(i),
  };
  function chain(operand, ...symbols) {
    let left = operand(), symbol;
    while ((symbol = accept(...symbols))) left = operations[symbol](left, operand());
    return left;
  }
  const product = () => chain(factor, "*", "/");
  const sum = () => chain(product, "+", "-");
  const tests = [];
  do {
    let left = sum(), symbol = accept("<", "<=", ">", ">=", "==");
    if (!symbol) throw fault("one of < <= > >= == expected", next().place);
    for (; symbol; symbol = accept("<", "<=", ">", ">=", "==")) {
      const right = sum();
      tests.push(operations[symbol](left, right));
      left = right;
    }
  } while (next().name === "and" && ++at);
  if (at < tokens.length) throw fault("'and' or an operator expected", next().place);
  return (i) => tests.every((test) => test(i));
}
