# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: B905, E401, E501, E701, E702, I001, N806, RUF017, RUF100, T201, UP031
# Kept as measured: the bytes that it writes are the data set of the figures.
# fmt: off
"""Deterministic generator of a population register (人口登记) and a business table (办件).

    gen_population.py population --rows 5000000 --seed 1 --format pgcopy   > pop.tsv
    gen_population.py business   --rows 1000000 --seed 1 --format csv      > biz.csv
    gen_population.py ddl --dialect postgresql|mysql|sqlite

Same (table, rows, seed) -> same bytes, on any machine with the same numpy major
version (PCG64 streams, one per 50 000-row chunk, so row k does not depend on the
number of rows asked for: the first N rows of a larger run are the same N rows).

--version 2 writes the "next day" snapshot: 1 % of rows changed, 0.1 % inserted,
0.1 % deleted, updated_at left as it was (so only content tells).
--rare 1 mixes rare ideographs (CJK Ext-B, GB18030-only) and emoji into 0.1 % of rows.

Formats: pgcopy (COPY text, \\N null), mysql (LOAD DATA, \\N null, tab; bytea as hex
to be wrapped by UNHEX), csv (RFC 4180, empty = null; for `sqlite3 .import`).
id_no is a valid GB 11643-1999 number: region(6)+birth(8)+seq(3)+check(1).
All names, addresses, phones are synthetic.
"""
import argparse, sys
import numpy as np

CHUNK = 50_000

SURN = ("王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁谢宋唐许韩冯邓曹彭曾肖田董潘袁蔡蒋余于杜叶程魏苏吕丁任卢姚沈钟姜崔谭陆范汪廖石金韦贾夏付方邹熊白孟秦邱侯江尹薛闫段雷龙黎史陶贺毛郝顾龚邵万覃武钱戴严莫孔向常汤"
        )
SURN2 = ["欧阳", "上官", "诸葛", "司马", "皇甫", "尉迟", "慕容", "令狐"]
GIVEN = ("伟芳娜秀英敏静丽强磊军洋勇艳杰娟涛明超兰霞平刚桂文辉玲华红建国志梅鑫波宁凯健俊帆雪荣爱妹香月莺媛瑞凡佳嘉琼勤珍贞莉英丹蓉眉君琴蕊薇菁梦岚苑婕馨瑗琰韵融园艺咏卿聪澜纯毓悦昭冰爽琬茗羽希欣飘育滢馥筠柔竹霭凝晓欢霄枫芸菲寒伊亚宜可姬舒影荔枝思"
         "子涵浩然梓萱宇轩诗雨泽一诺博文天佑雅琪")
ETH = ["汉族"] * 92 + ["回族", "满族", "壮族", "维吾尔族", "蒙古族", "藏族", "苗族", "彝族"]
# Fictional 云溪市: prefix 99 is assigned to no province, so these numbers pass the checksum and belong to nobody.
CITY = [("990102", "云溪市临河区"), ("990103", "云溪市云山区"), ("990104", "云溪市东浦区"),
        ("990105", "云溪市西岭区"), ("990106", "云溪市南塘区"), ("990107", "云溪市北桥区"),
        ("990108", "云溪市高新区"), ("990109", "云溪市滨湖区"), ("990110", "云溪市开发区"),
        ("990121", "云溪市青川县"), ("990122", "云溪市白石县"), ("990123", "云溪市安溪县"),
        ("990124", "云溪市永宁县"), ("990125", "云溪市清水县"), ("990126", "云溪市石门县"),
        ("990127", "云溪市太平县"), ("990128", "云溪市龙泉县"), ("990129", "云溪市金沙县"),
        ("990130", "云溪市长岭县"), ("990181", "云溪市云阳市")]
ROAD = ["人民", "解放", "中山", "建设", "和平", "新华", "文化", "胜利", "长江", "黄河", "北京", "南京", "青年", "幸福",
        "朝阳", "光明", "东风", "红旗", "滨河", "迎宾", "学府", "科技", "创新", "迎春", "金水", "花园"]
RKIND = ["路", "街", "大道", "东路", "西路", "巷"]
EST = ["阳光花园", "锦绣家园", "翠湖小区", "金色港湾", "碧桂苑", "万科城", "中央公馆", "和谐佳苑", "书香门第", "江南雅居",
       "幸福里小区", "机关家属院", "棉纺厂宿舍", "铁路新村", "东方明珠苑", "水木清华园"]
RARE = ["𠮷", "𡈼", "㛃", "䶮", "𬭎", "𨭎", "😀", "🏠"]
W = np.array([7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2])
CK = "10X98765432"
D0 = np.datetime64("1935-01-01", "D")
T0 = np.datetime64("2015-01-01T00:00:00", "s")
TU = np.datetime64("2024-01-01T00:00:00", "s")
PHP = ["130", "131", "135", "136", "138", "139", "150", "158", "159", "176", "180", "186", "188", "199"]


def _rng(seed, table, chunk, version=1):
    return np.random.Generator(np.random.PCG64([seed, table, chunk, version]))


def pop_chunk(seed, chunk, n, rare=0):
    """lists of column values for rows chunk*CHUNK .. +n (base version)"""
    r = _rng(seed, 1, chunk)
    N = CHUNK
    base = chunk * CHUNK
    ids = np.arange(base + 1, base + 1 + N)
    ci = r.integers(0, len(CITY), N)
    bd = D0 + r.integers(0, 32000, N).astype("timedelta64[D]")
    seq = r.integers(1, 999, N)
    gender = seq % 2
    region = np.array([c[0] for c in CITY])[ci]
    bs = np.datetime_as_string(bd, unit="D")
    b8 = np.char.replace(bs, "-", "")
    s17 = np.char.add(np.char.add(region, b8), np.char.zfill(seq.astype("U3"), 3))
    digs = s17.astype("S17").view(np.uint8).reshape(N, 17) - 48
    chk = np.array(list(CK))[(digs.astype(np.int64) * W).sum(1) % 11]
    idno = np.char.add(s17, chk).tolist()
    su = r.integers(0, len(SURN), N); g1 = r.integers(0, len(GIVEN), N); g2 = r.integers(0, len(GIVEN), N)
    k = r.random(N)
    names = []
    for a, b, c, q in zip(su.tolist(), g1.tolist(), g2.tolist(), k.tolist()):
        names.append((SURN2[a % 8] if q < 0.01 else SURN[a]) + GIVEN[b] + (GIVEN[c] if q < 0.8 else ""))
    eth = [ETH[i] for i in r.integers(0, 100, N).tolist()]
    ro = r.integers(0, len(ROAD), N).tolist(); rk = r.integers(0, len(RKIND), N).tolist()
    no = r.integers(1, 999, N).tolist(); es = r.integers(0, len(EST), N).tolist()
    bl = r.integers(1, 40, N).tolist(); un = r.integers(1, 6, N).tolist(); rm = r.integers(101, 3205, N).tolist()
    addr = [f"{CITY[c][1]}{ROAD[a]}{RKIND[b]}{d}号{EST[e]}{f}号楼{g}单元{h}室"
            for c, a, b, d, e, f, g, h in zip(ci.tolist(), ro, rk, no, es, bl, un, rm)]
    pp = r.integers(0, len(PHP), N).tolist(); pn = r.integers(0, 10**8, N).tolist(); ph0 = r.random(N).tolist()
    phone = [None if q < 0.08 else f"{PHP[a]}{b:08d}" for a, b, q in zip(pp, pn, ph0)]
    hh = [f"HH{b}{c:08d}" for b, c in zip(region.tolist(), r.integers(0, 10**8, N).tolist())]
    st = r.choice(4, N, p=[0.93, 0.04, 0.02, 0.01]).tolist()
    cents = np.minimum((r.lognormal(8.4, 0.9, N) * 100).astype(np.int64), 99_999_999_99)
    inull = r.random(N)
    inc = [None if q < 0.15 else f"{c // 100}.{c % 100:02d}" for c, q in zip(cents.tolist(), inull.tolist())]
    cr = T0 + r.integers(0, 280_000_000, N).astype("timedelta64[s]")
    up = TU + r.integers(0, 70_000_000, N).astype("timedelta64[s]")
    us = r.integers(0, 1_000_000, N)
    crs = [s.replace("T", " ") for s in np.datetime_as_string(cr).tolist()]
    ups = [f"{s.replace('T', ' ')}.{u:06d}" for s, u in zip(np.datetime_as_string(up).tolist(), us.tolist())]
    gl = ["女" if g == 0 else "男" for g in gender.tolist()]
    if rare:
        for i in np.nonzero(r.random(N) < 0.001)[0].tolist():
            names[i] = names[i][0] + RARE[i % 6]
            addr[i] += RARE[i % 8]
    cols = [ids.tolist(), idno, names, gl, bs.tolist(), eth, addr, phone, region.tolist(), hh, st, inc, crs, ups]
    return [c[:n] for c in cols]


def pop_rows(rows, seed, version=1, rare=0):
    nch = (rows + CHUNK - 1) // CHUNK
    for ch in range(nch):
        n = min(CHUNK, rows - ch * CHUNK)
        cols = pop_chunk(seed, ch, n, rare)
        if version == 1:
            yield list(zip(*cols))
            continue
        r = _rng(seed, 1, ch, 2)
        u = r.random(CHUNK)[:n]
        which = r.integers(0, 4, CHUNK)[:n].tolist()
        out = []
        for row, q, w in zip(zip(*cols), u.tolist(), which):
            if q < 0.001:
                continue
            if q < 0.011:
                row = list(row)
                if w == 0: row[6] += "附1号"
                elif w == 1: row[7] = "19900000000"
                elif w == 2: row[10] = (row[10] + 1) % 4
                else: row[11] = "12345.67"
            out.append(row)
        yield out
    if version == 2:  # 0.1 % inserted, keys after the last
        k = rows // 1000
        extra = [list(c) for c in zip(*[pop_chunk(seed + 7919, i, CHUNK, rare) for i in range((k + CHUNK - 1) // CHUNK)])]
        cols = [sum(c, [])[:k] for c in extra]
        cols[0] = list(range(rows + 1, rows + 1 + k))
        yield list(zip(*cols))


WORDS = ["申请", "材料", "齐全", "受理", "审核", "通过", "退回", "补正", "告知", "窗口", "办结", "公示", "证照", "企业", "个人",
         "不动产", "登记", "社保", "医保", "公积金", "户籍", "迁移", "婚姻", "出生", "低保", "救助", "残疾", "老龄", "教育", "就业"]


def biz_rows(rows, seed, rare=0):
    """id, case_no, item_code, applicant, payload(json), remark(text), attachment(bytes), score(double), ok(bool), accepted_at(timestamptz), due_on"""
    nch = (rows + CHUNK - 1) // CHUNK
    for ch in range(nch):
        n = min(CHUNK, rows - ch * CHUNK)
        r = _rng(seed, 2, ch)
        N = CHUNK
        ty = r.integers(0, 500, N).tolist(); dt = r.integers(0, 2000, N)
        ln = r.integers(0, 60, N).tolist(); wi = r.integers(0, len(WORDS), (N, 8)).tolist()
        nul = r.random((N, 4)).tolist(); sc = r.normal(60, 15, N).tolist()
        blob = r.bytes(N * 48); bl = r.integers(0, 48, N).tolist()
        ds = np.datetime_as_string(np.datetime64("2020-01-01") + dt.astype("timedelta64[D]")).tolist()
        se = r.integers(0, 86400, N).tolist(); fee = r.integers(0, 1_000_000, N).tolist()
        out = []
        for i in range(n):
            w = wi[i]; nu = nul[i]; s = se[i]; rid = ch * CHUNK + i + 1
            js = ('{"item": "%s", "fee": %d.%02d, "docs": [{"name": "%s", "pages": %d}, {"name": "%s", "pages": null}], "online": %s}'
                  % (WORDS[w[0]] + WORDS[w[1]], fee[i] // 100, fee[i] % 100, WORDS[w[2]], ln[i], WORDS[w[3]], "true" if nu[0] < .5 else "false"))
            rem = None if nu[1] < .3 else "，".join(WORDS[x] for x in w) * (1 + ln[i] // 20) + ("\n附：\"详见\"\t附件\\清单" if nu[1] > .98 else "")
            if rare and nu[1] > .99: rem += RARE[i % 8]
            out.append((rid, f"BJ{ds[i].replace('-', '')}{rid:09d}", f"ITEM{ty[i]:04d}", None if nu[2] < .1 else SURN[w[4]] + GIVEN[w[5]],
                        None if nu[3] < .2 else js, rem, None if nu[2] > .6 else blob[i * 48:i * 48 + bl[i]],
                        None if nu[0] < .1 else sc[i], None if nu[3] > .95 else nu[0] < .5,
                        f"{ds[i]} {s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}.{fee[i]:06d}+08", None if nu[1] < .2 else ds[i]))
        yield out


POP = ["id", "id_no", "name", "gender", "birth_date", "ethnicity", "address", "phone", "region_code", "household_no", "status", "income", "created_at", "updated_at"]
BIZ = ["id", "case_no", "item_code", "applicant", "payload", "remark", "attachment", "score", "ok", "accepted_at", "due_on"]

DDL = {
    "postgresql": """create table population(id bigint not null, id_no char(18) not null, name varchar(30) not null, gender varchar(2), birth_date date, ethnicity varchar(20), address varchar(200), phone varchar(20), region_code char(6), household_no varchar(20), status smallint, income numeric(12,2), created_at timestamp, updated_at timestamp);
create table business(id bigint not null, case_no varchar(32), item_code varchar(16), applicant varchar(60), payload jsonb, remark text, attachment bytea, score double precision, ok boolean, accepted_at timestamptz, due_on date);""",
    "mysql": """create table population(id bigint not null primary key, id_no char(18) not null, name varchar(30) not null, gender varchar(2), birth_date date, ethnicity varchar(20), address varchar(200), phone varchar(20), region_code char(6), household_no varchar(20), status smallint, income decimal(12,2), created_at datetime, updated_at datetime(6)) engine=InnoDB default charset=utf8mb4;
create table business(id bigint not null primary key, case_no varchar(32), item_code varchar(16), applicant varchar(60), payload json, remark text, attachment blob, score double, ok boolean, accepted_at datetime(6), due_on date) engine=InnoDB default charset=utf8mb4;""",
    "sqlite": """create table population(id integer primary key, id_no text not null, name text not null, gender text, birth_date text, ethnicity text, address text, phone text, region_code text, household_no text, status integer, income numeric, created_at text, updated_at text);
create table business(id integer primary key, case_no text, item_code text, applicant text, payload text, remark text, attachment blob, score real, ok integer, accepted_at text, due_on text);""",
}
INDEXES = """alter table population add primary key(id);
create index population_updated_at on population(updated_at);
create index population_id_no on population(id_no);
alter table business add primary key(id);"""


def esc_pg(v):
    if v is None: return "\\N"
    if isinstance(v, str):
        if "\\" in v or "\t" in v or "\n" in v or "\r" in v:
            v = v.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
        return v
    if v is True: return "t"
    if v is False: return "f"
    if isinstance(v, bytes): return "\\\\x" + v.hex()
    return repr(v) if isinstance(v, float) else str(v)


def esc_my(v):
    if isinstance(v, bool): return "1" if v else "0"
    if isinstance(v, bytes): return v.hex()
    return esc_pg(v)


def write(blocks, fmt, out):
    if fmt == "csv":
        import csv, io
        for b in blocks:
            s = io.StringIO()
            csv.writer(s, lineterminator="\n").writerows([[("x" + v.hex()) if isinstance(v, bytes) else int(v) if isinstance(v, bool) else v for v in row] for row in b])
            out.write(s.getvalue().encode())
        return
    e = esc_pg if fmt == "pgcopy" else esc_my
    for b in blocks:
        out.write("".join(["\t".join([e(v) for v in row]) + "\n" for row in b]).encode())


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("table", choices=["population", "business", "ddl", "indexes"])
    p.add_argument("--rows", type=int, default=1000); p.add_argument("--seed", type=int, default=1)
    p.add_argument("--format", default="pgcopy", choices=["pgcopy", "mysql", "csv"])
    p.add_argument("--version", type=int, default=1, choices=[1, 2]); p.add_argument("--rare", type=int, default=0)
    p.add_argument("--dialect", default="postgresql", choices=list(DDL))
    a = p.parse_args()
    if a.table == "ddl": print(DDL[a.dialect]); return
    if a.table == "indexes": print(INDEXES); return
    blocks = pop_rows(a.rows, a.seed, a.version, a.rare) if a.table == "population" else biz_rows(a.rows, a.seed, a.rare)
    write(blocks, a.format, sys.stdout.buffer)


if __name__ == "__main__":
    main()
