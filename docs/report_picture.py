"""Draws docs/report.svg, the picture at the top of the README, from a report's own charts.

    lynxdata quickstart && python docs/report_picture.py lynxdata-quickstart/run/report.html docs/report.svg
"""

import html
import re
import sys
import textwrap

WIDTH, MARGIN = 800, 40
# Beginnings of the labels of charts, from top to bottom; histograms stand beside each other.
FUNNEL, DIFFERENCES = "Rows left after each step", "visual gain"
HISTOGRAMS = ["Histogram of caption_words", "Histogram of contrast"]


def charts(page):
    """Each chart by its label, as it stands for wide screens: size and content."""
    found = {}
    pattern = r'<svg class="chart" viewBox="0 0 (\d+) (\d+)"[^>]*aria-label="([^"]*)">(.*?)</svg>'
    for width, height, label, content in re.findall(pattern, page, re.S):
        found.setdefault(html.unescape(label), (int(width), int(height), content))
    return found


def styles(page):
    """The rules of the report for charts, with the colours of its light theme in place of variables."""
    root = re.search(r":root \{(.*?)\}", page, re.S).group(1)
    colours = dict(re.findall(r"(--[\w-]+): ([^;]+);", root))
    rules = [line for line in page.splitlines() if line.startswith("svg ") and "hover" not in line and "chart" not in line]
    fill = lambda text: re.sub(r"var\((--[\w-]+)\)", lambda name: colours[name.group(1)], text)
    return "\n".join(fill(rule) for rule in rules), colours


def main(source, target):
    with open(source, encoding="utf-8") as file:
        page = file.read()
    found, (rules, colours) = charts(page), styles(page)
    chart = lambda start: next(value for label, value in found.items() if label.startswith(start))
    say = lambda pattern: html.unescape(re.search(pattern, page, re.S).group(1)).strip()
    verdict, facts = say(r'class="verdict-word">(.*?)</p>'), re.findall(r"<div><dt>(.*?)</dt><dd>(.*?)</dd></div>", page)
    lead = textwrap.wrap(say(r'class="lead">(.*?)</p>').split(". ", 1)[1].split(" Measured on")[0], 108)

    parts, y = [], MARGIN
    text = lambda x, y, size, words, colour="ink", more="": parts.append(
        f'<text x="{x}" y="{y}" style="font-size:{size}px;fill:{colours["--" + colour]};{more}">{html.escape(words)}</text>')
    serif = f"font-family:{colours['--serif'].replace(chr(34), chr(39))};font-weight:600;"
    text(MARGIN, y, 11, say(r"<title>(.*?)</title>"), "muted")
    y += 36
    text(MARGIN, y, 28, verdict[0].upper() + verdict[1:], more=serif)
    y += 8
    for line in lead:
        y += 20
        text(MARGIN, y, 13, line, "muted")
    y += 52
    for place, (name, value) in enumerate(facts):
        x = MARGIN + place * (WIDTH - 2 * MARGIN) // len(facts)
        text(x, y, 26, html.unescape(value), more=serif)
        for row, line in enumerate(textwrap.wrap(html.unescape(name), 28)):
            text(x, y + 18 + 14 * row, 11, line, "muted")
    y += 64

    def put(x, y, start):
        _, height, content = chart(start)
        parts.append(f'<g transform="translate({x},{y})">{content}</g>')
        return height

    y += put(MARGIN, y, FUNNEL) + 30
    y += put(MARGIN, y, DIFFERENCES) + 30
    places = list(zip((MARGIN, WIDTH - MARGIN - 340), HISTOGRAMS))
    for x, start in places:
        text(x, y, 12, start.removeprefix("Histogram of "), more="font-weight:600;")
    height = y + 8 + max(put(x, y + 8, start) for x, start in places) + 26
    font = colours["--sans"].replace('"', "'")
    with open(target, "w", encoding="utf-8") as file:
        file.write(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            f'role="img" aria-label="A report of lynxdata: the verdict, what was lost where, differences with intervals, signals">\n'
            f"<style>\nsvg {{ font-family: {font}; }}\n{rules}\n</style>\n"
            f'<rect width="{WIDTH}" height="{height}" style="fill:{colours["--paper"]}"/>\n' + "\n".join(parts) + "\n</svg>\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
