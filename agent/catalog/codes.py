# SPDX-License-Identifier: Apache-2.0
"""Code tables that items may be bound to, by the name a resource document uses.

Sources: GB/T 2261.1 (gender), GB/T 3304 (ethnicity; 97 and 98 are common extensions),
GB/T 2260 (regions). Regions are judged by form and province only: the full list changes
every year and old codes stay in the data. Prefix 99 belongs to no province; the sample
city 云溪市 uses it, so that its identity numbers belong to nobody.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

GENDER = {
    "0": "未知的性别",
    "1": "男性",
    "2": "女性",
    "9": "未说明的性别",
}

ETHNICITY = {
    "01": "汉族",
    "02": "蒙古族",
    "03": "回族",
    "04": "藏族",
    "05": "维吾尔族",
    "06": "苗族",
    "07": "彝族",
    "08": "壮族",
    "09": "布依族",
    "10": "朝鲜族",
    "11": "满族",
    "12": "侗族",
    "13": "瑶族",
    "14": "白族",
    "15": "土家族",
    "16": "哈尼族",
    "17": "哈萨克族",
    "18": "傣族",
    "19": "黎族",
    "20": "傈僳族",
    "21": "佤族",
    "22": "畲族",
    "23": "高山族",
    "24": "拉祜族",
    "25": "水族",
    "26": "东乡族",
    "27": "纳西族",
    "28": "景颇族",
    "29": "柯尔克孜族",
    "30": "土族",
    "31": "达斡尔族",
    "32": "仫佬族",
    "33": "羌族",
    "34": "布朗族",
    "35": "撒拉族",
    "36": "毛南族",
    "37": "仡佬族",
    "38": "锡伯族",
    "39": "阿昌族",
    "40": "普米族",
    "41": "塔吉克族",
    "42": "怒族",
    "43": "乌孜别克族",
    "44": "俄罗斯族",
    "45": "鄂温克族",
    "46": "德昂族",
    "47": "保安族",
    "48": "裕固族",
    "49": "京族",
    "50": "塔塔尔族",
    "51": "独龙族",
    "52": "鄂伦春族",
    "53": "赫哲族",
    "54": "门巴族",
    "55": "珞巴族",
    "56": "基诺族",
    "97": "其他",
    "98": "外国血统中国籍人士",
}

PROVINCES = {
    "11": "北京市",
    "12": "天津市",
    "13": "河北省",
    "14": "山西省",
    "15": "内蒙古自治区",
    "21": "辽宁省",
    "22": "吉林省",
    "23": "黑龙江省",
    "31": "上海市",
    "32": "江苏省",
    "33": "浙江省",
    "34": "安徽省",
    "35": "福建省",
    "36": "江西省",
    "37": "山东省",
    "41": "河南省",
    "42": "湖北省",
    "43": "湖南省",
    "44": "广东省",
    "45": "广西壮族自治区",
    "46": "海南省",
    "50": "重庆市",
    "51": "四川省",
    "52": "贵州省",
    "53": "云南省",
    "54": "西藏自治区",
    "61": "陕西省",
    "62": "甘肃省",
    "63": "青海省",
    "64": "宁夏回族自治区",
    "65": "新疆维吾尔自治区",
    "71": "台湾省",
    "81": "香港特别行政区",
    "82": "澳门特别行政区",
    "99": "云溪市（示例）",
}
"""First two digits of a region code."""

GENDER_NAMES = frozenset({*GENDER.values(), "男", "女", "未知", "未说明"})
"""What stands where a gender is written out; people leave 性 away."""

ETHNICITY_NAMES = frozenset(ETHNICITY.values())

TABLES: Mapping[str, Collection[str]] = {
    "gender": GENDER,
    "gender_name": GENDER_NAMES,
    "ethnicity": ETHNICITY,
    "ethnicity_name": ETHNICITY_NAMES,
}
"""Complete lists: of codes, and of the names that stand in their place."""

REGION = "region"
"""Rule ``code:region``: six digits that begin with one of :data:`PROVINCES`."""

NAMES = (*TABLES, REGION)
"""What may stand behind ``code:`` in a rule."""
